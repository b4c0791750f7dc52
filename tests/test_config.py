import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from herjax.commands.flags import define_flags, read_flags
from herjax.dsl.canonical import canonical_program
from herjax.learning.config import AdaptConfig
from herjax.learning.optimizers import clipped_adam
from herjax.learning.presets import PretrainConfig
from herjax.learning.selection import keep_shortest, order_sorted, select_best
from herjax.runtime.config import check_integer, did_you_mean, from_dict, told
from herjax.tasks.random import TaskConfig
from herjax.tasks.task import make_task


def parse(config, *arguments):
    values = flags.FlagValues()
    define_flags(config, values=values)
    values(["program", *arguments])
    return read_flags(config, values)


def test_flags_replace_what_is_given_and_keep_the_rest():
    assert parse(PretrainConfig()) == PretrainConfig()
    config = parse(
        PretrainConfig(),
        "--model.width=64",
        "--muon_lr=0.5",
        "--size_limits=50,100",
        "--steps=9",
        "--snapshots=",
    )
    assert config == dataclasses.replace(
        PretrainConfig(),
        model=dataclasses.replace(PretrainConfig().model, width=64),
        muon_lr=0.5,
        size_limits=(50, 100),
        steps=9,
        snapshots=(),
    )
    assert parse(AdaptConfig(), "--nonovelty", "--greedy").novelty is False
    assert parse(AdaptConfig(), "--temperatures=0.5").temperatures == (0.5,)


@pytest.mark.parametrize("argument", ["--programs=1,x", "--programs=1.5", "--temperatures=,"])
def test_malformed_tuples_are_refused(argument):
    with pytest.raises(ValueError, match=f"{argument}: expected (int|float)s separated by commas"):
        parse(AdaptConfig(), argument)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1], "must be fields by name"),
        ({"depth": 3}, "PretrainConfig has no field 'depth'"),
        ({"model": {"width": "wide"}}, "width must be an integer, got 'wide'"),
        ({"model": 3}, "ModelConfig must be fields by name, got 3"),
    ],
)
def test_from_dict_takes_only_what_asdict_gives(values, message):
    with pytest.raises(ValueError, match=message):
        from_dict(PretrainConfig(), values)


def test_from_dict_is_the_inverse_of_asdict():
    config = PretrainConfig(steps=7, snapshots=())
    assert from_dict(PretrainConfig(), dataclasses.asdict(config)) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"programs": (0,)}, "programs must be at least 1"),
        ({"programs": (4, 4)}, "must pair up"),
        ({"temperatures": (-0.5,)}, "temperatures must be above 0"),
        ({"temperatures": (0.0,)}, "there is greedy"),
        ({"temperatures": (float("nan"),)}, "temperatures must be above 0"),
        ({"temperatures": (1e9,)}, "temperatures must be above 0 and at most 1000"),
        ({"minibatch": 0}, "minibatch must be at least 1, got 0"),
        ({"max_epochs": -1}, "max_epochs must be at least 1"),
        ({"fresh": -1}, "fresh must be 0 or more"),
        ({"learning_rate": -1.0}, "learning_rate must be positive, or 0 for none, got -1.0"),
        ({"partners": -1}, "partners must be 0 or more, got -1"),
        ({"programs": (1,), "keep": 0}, "partners must be 0: one program an epoch"),
        ({"fraction": 1.5}, "fraction must be"),
        ({"select": "best"}, "select must be a function, got 'best'"),
        ({"order": None}, "order must be a function, got None"),
        ({"programs": 3.5}, r"programs must be a tuple, each of it an integer, got \(3.5,\)"),
        ({"programs": "3"}, "programs must be a tuple, each of it an integer, got '3'"),
        ({"temperatures": ("1",)}, "temperatures must be a tuple, each of it a number"),
        ({"minibatch": 2.0}, "minibatch must be an integer, got 2.0"),
        ({"max_epochs": True}, "max_epochs must be an integer, got True"),
        ({"greedy": 1}, "greedy must be True or False, got 1"),
        ({"max_epochs": 10**10}, "max_epochs must be at most 2147483647, got 10000000000"),
        ({"programs": (10**5000,)}, "programs must be at most 2147483647, got"),
        ({"clip": "1"}, "clip must be a number, got '1'"),
        ({"clip": 10**5000}, "clip must be at most 2147483647, got"),
        (
            {"passes": 2**31 - 1},
            "passes 2147483647 make 4294967294 steps an epoch",
        ),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        AdaptConfig(**changes)


def test_near_names_are_suggested_and_far_ones_are_not():
    known = ("max_epochs", "max_draws", "seed")
    assert did_you_mean("max_epoch", known) == " (did you mean 'max_epochs'?)"
    assert did_you_mean("colour", known) == ""
    assert did_you_mean("x" * 10**6, known) == ""


def test_values_are_told_in_one_short_line():
    class Odd:
        def __repr__(self):
            raise RuntimeError

    assert told("a\nb") == r"'a\nb'"
    assert len(told("x" * 10**6)) < 200
    assert len(told(list(range(10**5)))) < 200
    assert "\n" not in told(np.zeros((9, 9)))
    assert told(10**5000) == "one int that cannot be written out"
    assert "Odd" in told(Odd())


def test_integers_of_every_kind_become_those_of_python():
    for value in (3, np.int8(3), np.uint64(3), jnp.int32(3)):
        assert type(check_integer("n", value, 0)) is int
    for value in (True, 3.0, "3", None, np.zeros(2, int), -1, 10**10):
        with pytest.raises(ValueError, match="n must be an integer, 0 .. 2147483647, got"):
            check_integer("n", value, 0)


def test_numbers_of_numpy_become_those_of_python():
    config = AdaptConfig(learning_rate=np.float64(1e-3), max_epochs=np.int64(3), greedy=np.bool_(1))
    assert config == AdaptConfig(learning_rate=1e-3, max_epochs=3, greedy=True)
    assert [type(config.learning_rate), type(config.max_epochs)] == [float, int]
    config = TaskConfig(drawn_inputs=np.int64(1))  # a probability, which JAX refuses as an integer
    assert type(config.drawn_inputs) is float
    assert type(AdaptConfig(temperatures=1).temperatures[0]) is float


def test_a_number_or_a_list_will_do_for_a_tuple():
    config = AdaptConfig(programs=np.int64(8), temperatures=[np.float32(0.5)])
    assert (config.programs, config.temperatures) == ((8,), (0.5,))
    assert [type(number) for number in config.programs + config.temperatures] == [int, float]


def test_the_defaults_are_the_ones_that_were_measured():
    """Tables of BUILD_NOTES.md and of the study are of these: with others they hold no more."""
    measured = {
        "programs": (12,),
        "temperatures": (0.9,),
        "min_distinct": 0.9,
        "greedy": False,
        "partners": 15,
        "keep": 4,
        "rewrite": canonical_program,
        "distinct": keep_shortest,
        "select": select_best,
        "fraction": 0.25,
        "order": order_sorted,
        "novelty": True,
        "passes": 1,
        "minibatch": 4,
        "fresh": 0,
        "learning_rate": 2e-3,
        "clip": 1.0,
        "optimizer": clipped_adam,
        "symmetries": True,
        "colour_permutations": True,
        "max_epochs": 500,
        "max_draws": 0,
    }
    plain = {"partners": 0, "programs": (32,), "learning_rate": 6e-4, "symmetries": False}
    plain |= {"max_epochs": 200}
    fields = {field.name for field in dataclasses.fields(AdaptConfig)}
    assert {*measured} == fields
    assert AdaptConfig() == AdaptConfig(**measured)
    assert AdaptConfig.plain() == AdaptConfig(**measured | plain)


def test_there_are_no_more_partners_than_others():
    assert AdaptConfig().others == AdaptConfig(partners=99).others == 15
    assert AdaptConfig(programs=(3,), keep=2).others == 4
    assert AdaptConfig(programs=(3,), partners=2).others == 2
    assert AdaptConfig.plain().others == 0


def test_a_picture_has_the_limit_of_its_own_canvas():
    for config in (AdaptConfig(), AdaptConfig(max_draws=7)):
        for rows in (1, 2, 3, 5, 30):
            for cols in range(1, 31):
                task = make_task(np.zeros((rows, cols), int))
                assert config.draw_limit(task) == config.draws(rows * cols)


def test_pairs_are_a_share_rounded_and_steps_pass_over_them():
    config = AdaptConfig.plain(fraction=0.9, minibatch=4, passes=3)
    assert (config.pairs, config.steps) == (29, 24)
    assert AdaptConfig.plain(programs=(1,), fraction=0.1).pairs == 1
