"""Calls of the library with arguments of the wrong kind, shape or range."""

import jax
import jax.numpy as jnp
import numpy as np

import herjax
from herjax.learning.presets import PretrainConfig
from tests.battery import Case
from tests.battery.door import refused

AREA = "library"
GRID = np.zeros((3, 3), int)


class Odd:
    def __repr__(self):
        raise RuntimeError("no")


def case(name, call, message, error=ValueError):
    return Case(name, AREA, lambda: refused(call, message, error))


class Later:
    """An array of JAX, which is not to start when this module is imported."""

    def __init__(self, make):
        self.make = make


def _with(function, **arguments):
    def call():
        return function(
            **{n: v.make() if isinstance(v, Later) else v for n, v in arguments.items()}
        )

    return call


GRIDS = [
    ("None", None, "does not hold a grid"),
    ("a number", 3, "does not hold a grid"),
    ("a string", "12", "does not hold a grid"),
    ("a row of strings", ["12", "34"], "does not hold a grid"),
    ("bytes", b"12", "does not hold a grid"),
    ("a dict", {0: [1]}, "does not hold a grid"),
    ("a set", {1}, "does not hold a grid"),
    ("a generator", (row for row in [[1]]), "does not hold a grid"),
    ("no rows", [], "does not hold a grid"),
    ("an empty row", [[]], "[rows, columns]"),
    ("a flat list", [1, 2], "does not hold a grid"),
    ("ragged", [[1, 2], [3]], "row 2 has 1 cells, row 1 has 2"),
    ("ragged arrays", [np.zeros(2, int), np.zeros(3, int)], "row 2 has 3 cells"),
    ("a float in a list", [[1.0]], "row 1: colours are 0 .. 9, got 1.0"),
    ("True in a list", [[True]], "got True"),
    ("None in a list", [[None]], "got None"),
    ("a string in a list", [["1"]], "got '1'"),
    ("ten in a list", [[10]], "got 10"),
    ("2**64 in a list", [[2**64]], "got 18446744073709551616"),
    ("10**5000 in a list", [[10**5000]], "colours are 0 .. 9"),
    ("a scalar", np.int32(3), "[rows, columns], got shape ()"),
    ("one axis", np.zeros(3, int), "[rows, columns], got shape (3,)"),
    ("three axes", np.zeros((3, 3, 3), int), "got shape (3, 3, 3)"),
    ("no cells", np.zeros((0, 3), int), "got shape (0, 3)"),
    ("floats", np.zeros((3, 3)), "must hold integers, got float64"),
    ("booleans", np.zeros((3, 3), bool), "must hold integers, got bool"),
    ("complex numbers", np.zeros((3, 3), complex), "must hold integers, got complex128"),
    ("objects", np.zeros((3, 3), object), "must hold integers, got object"),
    ("letters", np.full((3, 3), "1"), "must hold integers, got <U1"),
    ("dates", np.zeros((3, 3), "datetime64[D]"), "must hold integers, got datetime64"),
    ("durations", np.zeros((3, 3), "timedelta64[D]"), "must hold integers, got timedelta64"),
    ("records", np.zeros((3, 3), [("a", int)]), "must hold integers"),
    (
        "bfloat16",
        Later(lambda: jnp.zeros((3, 3), jnp.bfloat16)),
        "must hold integers, got bfloat16",
    ),
    ("ten", np.full((3, 3), 10), "colours 10 .. 10, allowed are 0 .. 9"),
    ("minus one", np.full((3, 3), -1), "colours -1 .. -1"),
    ("256, which wraps to 0", np.full((3, 3), 256), "colours 256 .. 256"),
    ("2**32 + 1", np.full((3, 3), 2**32 + 1), "colours 4294967297"),
    ("2**63", np.full((3, 3), 2**63, np.uint64), "colours 9223372036854775808"),
    ("uint8 of -1", np.full((3, 3), 255, np.uint8), "colours 255 .. 255"),
    ("masked", np.ma.masked_equal([[1, 2]], 2), "has masked cells"),
    ("16 million cells", np.zeros((4000, 4000), np.int8), "larger than the model's canvas"),
    ("one row too many", np.zeros((31, 3), int), "31x3 is larger than the model's canvas, 30x30"),
]
ADAPT = [
    ("seed", -1, "seed must be an integer, 0 .. 4294967295, got -1"),
    ("seed", 2**32, "seed must be an integer"),
    ("seed", 2**64, "seed must be an integer"),
    ("seed", 10**5000, "seed must be an integer"),
    ("seed", 0.0, "got 0.0"),
    ("seed", True, "got True"),
    ("seed", "0", "got '0'"),
    ("seed", None, "got None"),
    ("seed", np.float32(1), "seed must be an integer"),
    ("seed", np.zeros(2, int), "seed must be an integer"),
    ("seed", Later(lambda: jax.random.key(0)), "seed must be an integer"),
    ("config", {}, "config must be an AdaptConfig, got {}"),
    ("config", {"programs": 3}, "config must be an AdaptConfig"),
    ("config", "plain", "config must be an AdaptConfig"),
    ("config", herjax.AdaptConfig, "config must be an AdaptConfig"),
    ("config", PretrainConfig(), "config must be an AdaptConfig"),
    ("config", 0, "config must be an AdaptConfig"),
    ("config", Odd(), "config must be an AdaptConfig, got"),
    ("learner", "hindsight", "learner must be a function, got 'hindsight'"),
    ("learner", None, "learner must be a function, got None"),
    ("on_epoch", 3, "on_epoch must be a function, got 3"),
    ("on_epoch", [print], "on_epoch must be a function"),
    ("params", 3, "params must be a Pretrained"),
    ("params", {}, "or None, got dict"),
    ("params", {"params": {"row_embed": 1}}, "or None, got dict"),
    ("params", b"base", "params must be a Pretrained"),
    ("params", ["base"], "params must be a Pretrained"),
    ("input", np.zeros((3, 4), int), "they must be equal"),
    ("input", np.zeros((1, 3), int), "they must be equal"),
    ("input", np.full((3, 3), 10), "input has colours 10 .. 10"),
    ("input", np.zeros((3, 3)), "input must hold integers"),
    ("input", 0, "input does not hold a grid"),
]
CONFIG = [
    ({"programs": "32"}, "programs must be a tuple, each of it an integer, got '32'"),
    ({"programs": {32}}, "programs must be a tuple"),
    ({"programs": ()}, "programs must be at least 1"),
    ({"programs": (0,)}, "programs must be at least 1"),
    ({"programs": (1.0,)}, "programs must be a tuple"),
    ({"programs": (True,)}, "programs must be a tuple"),
    ({"programs": (np.float32(3),)}, "programs must be a tuple"),
    ({"programs": (4, 4)}, "must pair up"),
    ({"programs": (10**10,)}, "programs must be at most 2147483647"),
    ({"temperatures": "1.0"}, "temperatures must be a tuple"),
    ({"temperatures": (0.0,)}, "temperatures must be above 0"),
    ({"temperatures": (-1.0,)}, "temperatures must be above 0"),
    ({"temperatures": (float("nan"),)}, "temperatures must be above 0"),
    ({"temperatures": (float("inf"),)}, "temperatures must be above 0"),
    ({"temperatures": ("1",)}, "temperatures must be a tuple"),
    ({"min_distinct": -0.1}, "min_distinct must be 0 .. 1"),
    ({"min_distinct": 1.1}, "min_distinct must be 0 .. 1"),
    ({"min_distinct": float("nan")}, "min_distinct must be 0 .. 1"),
    ({"greedy": 1}, "greedy must be True or False, got 1"),
    ({"greedy": None}, "greedy must be True or False"),
    ({"partners": -1}, "partners must be 0 or more"),
    ({"programs": (1,), "keep": 0}, "partners must be 0: one program an epoch"),
    ({"partners": 1.0}, "partners must be an integer"),
    ({"keep": -1}, "keep must be 0 or more"),
    ({"keep": 2.0}, "keep must be an integer"),
    ({"rewrite": "canonical"}, "rewrite must be a function"),
    ({"distinct": None}, "distinct must be a function"),
    ({"select": "best"}, "select must be a function"),
    ({"order": 3}, "order must be a function"),
    ({"fraction": 0.0}, "fraction must be above 0"),
    ({"fraction": 1.01}, "at most 1"),
    ({"fraction": float("nan")}, "fraction must be above 0"),
    ({"novelty": "yes"}, "novelty must be True or False"),
    ({"passes": 0}, "passes must be at least 1"),
    ({"passes": 1.5}, "passes must be an integer"),
    ({"minibatch": 0}, "minibatch must be at least 1"),
    ({"minibatch": 2.0}, "minibatch must be an integer, got 2.0"),
    ({"fresh": -1}, "fresh must be 0 or more"),
    ({"learning_rate": -1e-3}, "learning_rate must be positive"),
    ({"learning_rate": float("nan")}, "learning_rate must be positive"),
    ({"learning_rate": float("inf")}, "learning_rate must be positive"),
    ({"learning_rate": "1e-3"}, "learning_rate must be a number"),
    ({"learning_rate": True}, "learning_rate must be a number"),
    ({"clip": 0.0}, "clip must be positive"),
    ({"clip": float("nan")}, "clip must be positive"),
    ({"symmetries": 0}, "symmetries must be True or False"),
    ({"colour_permutations": "no"}, "colour_permutations must be True or False"),
    ({"max_epochs": 0}, "max_epochs must be at least 1"),
    ({"max_epochs": 2**63}, "max_epochs must be at most 2147483647"),
    ({"max_epochs": True}, "max_epochs must be an integer"),
    ({"max_draws": -1}, "max_draws must be 0 or more"),
]
ROOM = [
    {"max_epochs": 10**9},
    {"programs": (10**9,)},
    {"minibatch": 10**9},
    {"fresh": 10**9},
    {"max_draws": 10**9},
]
MODEL = [
    ({"width": 0}, "width must be at least 1"),
    ({"width": 10**6}, "width must be at most 16384"),
    ({"width": 30}, "width 30 is not a multiple of heads 4"),
    ({"layers": 10**6}, "layers must be at most 512"),
    ({"layers": 0}, "layers must be at least 1"),
    ({"heads": 0}, "heads must be at least 1"),
    ({"mlp_ratio": 10**6}, "mlp_ratio must be at most 64"),
    ({"max_side": 10**6}, "max_side must be at most 128"),
    ({"max_side": 10.0}, "max_side must be an integer"),
    ({"ops": 99}, "ops must be at most"),
    ({"program_layers": 5}, "program_layers 5 must be 1 .. layers (4)"),
    ({"program_layers": 0}, "program_layers 0 must be"),
    ({"dtype": "float16"}, "dtype must be float32 or bfloat16"),
    ({"dtype": None}, "dtype must be a string"),
]


def accuracy(picture, target, message="must be [..., R, C] and [R, C]"):
    shapes = f"{np.shape(picture)} and {np.shape(target)}"
    return case(
        f"pixel_accuracy of {shapes}", lambda: herjax.pixel_accuracy(picture, target), message
    )


def _seeds():
    seeds = [0, np.int64(7), np.uint32(2**32 - 1), jnp.int32(3)]
    for seed in seeds:  # accepted: the next thing that is asked is refused
        refused(lambda seed=seed: herjax.adapt(GRID, seed=seed, learner=0), "learner must be")


CASES = [
    *(case(f"adapt to {n}", _with(herjax.adapt, target=g), m) for n, g, m in GRIDS),
    *(case(f"make_task of {n}", _with(herjax.make_task, target=g), m) for n, g, m in GRIDS[:-2]),
    *(
        case(f"adapt, {name}, {i}", _with(herjax.adapt, target=GRID, **{name: value}), message)
        for i, (name, value, message) in enumerate(ADAPT)
    ),
    *(
        case(f"AdaptConfig, {i}: {next(iter(changes))}", _with(herjax.AdaptConfig, **changes), m)
        for i, (changes, m) in enumerate(CONFIG)
    ),
    *(
        case(f"ModelConfig, {i}: {next(iter(changes))}", _with(herjax.ModelConfig, **changes), m)
        for i, (changes, m) in enumerate(MODEL)
    ),
    *(
        case(
            f"no room for {next(iter(changes))}",
            _with(herjax.adapt, target=GRID, config=herjax.AdaptConfig(**changes)),
            "GB of memory, there are",
        )
        for changes in ROOM
    ),
    accuracy(np.zeros((5, 5), int), np.zeros((1, 5), int)),
    accuracy(np.zeros((1, 5), int), np.zeros((5, 5), int)),
    accuracy(np.zeros(5, int), np.zeros((5, 5), int)),
    accuracy(np.zeros((5, 5), int), np.zeros(5, int)),
    accuracy(np.zeros((2, 5, 5), int), np.zeros((2, 5, 5), int)),
    accuracy(3, np.zeros((5, 5), int)),
    case(
        "a size of no number",
        _with(herjax.make_task, target=GRID, max_side="5"),
        "max_side must be",
    ),
    case("a size of 0", _with(herjax.make_task, target=GRID, max_side=0), "max_side must be"),
    case("a model by number", _with(herjax.load_pretrained, name=3), "a model is a name or a"),
    case("a model of None", _with(herjax.load_pretrained, name=None), "a model is a name or a"),
    case(
        "tasks without seeds",
        lambda: herjax.adapt_population([herjax.make_task(GRID)], []),
        "they must pair up",
    ),
    case(
        "a Picture for an input",
        lambda: herjax.adapt(GRID, input=herjax.pictures()["chick"]),
        "input is a Picture: give its target or its input",
    ),
    case(
        "pictures of a population, one of no rows",
        lambda: herjax.adapt_population([GRID, "chick"], [0, 1]),
        "target does not hold a grid",
    ),
    Case("seeds of every kind of integer", AREA, _seeds),
]
