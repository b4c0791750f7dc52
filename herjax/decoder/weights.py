"""Weights as safetensors beside a config.json, with a checksum; and the shipped models."""

import dataclasses
import hashlib
import json
import os
import pathlib
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util

from herjax.decoder.embedding import ModelConfig
from herjax.decoder.model import Decoder
from herjax.dsl.grammar import SLOTS
from herjax.dsl.ops import OPS
from herjax.runtime.config import did_you_mean, from_dict, told
from herjax.runtime.files import CheckpointError, parse_json, read_bounded, write_atomically
from herjax.runtime.jax_settings import as_written
from herjax.tasks.task import Task

SHIPPED = pathlib.Path(__file__).parents[1] / "pretrained"
BASE = "base"  # the shipped model to adapt
MAX_CONFIG = 1_000_000  # bytes of config.json
MAX_SHIPPED = 100_000_000  # bytes of weights
MAX_HEADER = 1_000_000  # bytes of model.safetensors besides the weights
UNPACKAGED = (
    "base-10",
    "base-20",
    "base-30",
    "base-weak-1",
    "base-weak-2",
    "base-weak-3",
)  # in SHIPPED of a checkout, in no wheel


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Pretrained:
    """A decoder and its weights.

    Attributes:
      model: the decoder.
      params: its parameters.
      info: config.json: how it was made, and its evaluation.
    """

    model: Decoder
    params: dict
    info: dict[str, Any]

    def __repr__(self) -> str:  # without all weights
        count = sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))
        return f"Pretrained({count:,} parameters, {self.model.config})"

    def computing_in(self, dtype: str) -> "Pretrained":
        """The same weights with products of another ``ModelConfig.dtype``.

        Raises:
          ValueError: if there is no such type.
        """
        config = dataclasses.replace(self.model.config, dtype=dtype)
        return dataclasses.replace(self, model=self.model.clone(config=config))


def shipped_names() -> list[str]:
    """Names that ``load_pretrained`` takes besides folders; a checkout has more than a wheel."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))


def save_weights(folder: str | os.PathLike, pretrained: Pretrained) -> None:
    """Write model.safetensors and config.json, each atomically.

    Args:
      folder: made if need be; ``load_pretrained`` takes it.
      pretrained: such as ``Result.adapted``; its ``info`` goes into config.json.

    Raises:
      ValueError: if the parameters are not those of the model, or ``info`` is no JSON object.
      OSError: if they cannot be written.
    """
    if not isinstance(pretrained, Pretrained):
        raise ValueError(f"pretrained must be a Pretrained, got {told(pretrained)}")
    config, params, info = pretrained.model.config, pretrained.params, pretrained.info
    if not isinstance(params, dict) or not isinstance(params.get("params"), dict):
        raise ValueError(f'params must be {{"params": ...}}, got {told(params)}')
    flat = traverse_util.flatten_dict(params["params"], sep="/")
    check_params(flat, parameter_shapes(config))
    # It writes the memory as it lies.
    data = safetensors.numpy.save({n: np.ascontiguousarray(leaf) for n, leaf in flat.items()})
    shape = dataclasses.asdict(config)
    own = {"model": shape, "sha256": _digest(shape, data)}  # not those of what it was made from
    try:
        text = json.dumps(own | info | own, indent=2) + "\n"
    except TypeError as error:
        raise ValueError(f"info must be JSON: {error}") from None
    if len(text) > MAX_CONFIG:
        raise ValueError(f"info is too long: {len(text):,} bytes of JSON, at most {MAX_CONFIG:,}")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "model.safetensors", data)
    write_atomically(folder / "config.json", text.encode())


def _digest(shape: dict, data: bytes) -> str:
    """sha256 of the model's configuration and its weights."""
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode() + data).hexdigest()


def load_pretrained(name: str | os.PathLike = BASE) -> Pretrained:
    """Load a shipped model by name, or one from a folder that ``save_weights`` wrote.

    A string that is a shipped name is that; of a folder of such a name give a ``pathlib.Path``, or
    "./base".

    Raises:
      CheckpointError: if there is no such model, or its files are damaged, do not fit together, or
        hold weights that are not finite.
      ValueError: if ``name`` is neither a name nor a path.
    """
    if not isinstance(name, str | os.PathLike):
        raise ValueError(f"a model is a name or a folder, got {told(name)}")
    shipped = isinstance(name, str) and name in shipped_names()
    folder = SHIPPED / name if shipped else pathlib.Path(name)
    try:
        info = _read_info(folder)
        if isinstance(ops := info["model"].get("ops"), int) and ops > len(OPS):
            raise CheckpointError(
                f"model {folder} knows {ops} drawing calls, this herjax has {len(OPS)}:"
                " load it where it was made"
            )
        config = from_dict(ModelConfig(), info["model"])
        # The package's own are what they were when it was made.
        wanted = {} if shipped else parameter_shapes(config)
        most = sum(leaf.size * leaf.dtype.itemsize for leaf in wanted.values()) or MAX_SHIPPED
        data = read_bounded(folder / "model.safetensors", most + MAX_HEADER)
        if _digest(info["model"], data) != info.get("sha256"):
            raise ValueError("model.safetensors or the model in config.json has another sha256")
        flat = safetensors.numpy.load(data)
        if not shipped:
            check_params(flat, wanted)
    except FileNotFoundError:
        raise CheckpointError(_missing(str(name))) from None
    except NotADirectoryError:
        raise CheckpointError(f"model {folder} is a file: give the folder that holds it") from None
    except (OSError, ValueError, TypeError, safetensors.SafetensorError) as error:
        why = str(error)[:300]
        raise CheckpointError(f"damaged model {str(folder)[:300]}: {why}") from None
    # jnp.asarray would compile a program for each shape.
    params = traverse_util.unflatten_dict(jax.device_put(flat), sep="/")
    return Pretrained(Decoder(config), {"params": params}, info)


def _read_info(folder: pathlib.Path) -> dict[str, Any]:
    """config.json, which has the shape of a model at least.

    Raises:
      ValueError: if it does not.
      OSError: if it cannot be read.
    """
    info = parse_json(read_bounded(folder / "config.json", MAX_CONFIG), "config.json")
    if not isinstance(info, dict) or not isinstance(info.get("model"), dict):
        raise ValueError("config.json does not tell the shape of the model")
    return info


@cache
@as_written()
def parameter_shapes(config: ModelConfig) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of the parameters of a decoder, by their names with slashes."""
    one = Decoder(dataclasses.replace(config, layers=1, program_layers=1))
    canvas, ones = jnp.zeros((1, 1, 1), jnp.int8), jnp.ones(1, jnp.int32)

    def init(key: jax.Array) -> Any:
        task, tokens = Task(canvas, canvas, ones, ones), jnp.zeros((1, 1, SLOTS), jnp.int32)
        return one.init(key, task, tokens, method=lambda m, t, s: m(m.encode(t, 1), s, t.width))

    made = traverse_util.flatten_dict(jax.eval_shape(init, jax.random.key(0))["params"], sep="/")
    block = {name: leaf for name, leaf in made.items() if name.startswith("blocks_0/")}
    for layer in range(1, config.layers):  # all are like the first: tracing each would take longer
        made.update({f"blocks_{layer}/{n.partition('/')[2]}": leaf for n, leaf in block.items()})
    return made


def parameter_count(config: ModelConfig) -> int:
    """How many numbers the parameters of a decoder are."""
    return sum(leaf.size for leaf in parameter_shapes(config).values())


def check_params(flat: dict[str, Any], wanted: dict[str, jax.ShapeDtypeStruct]) -> None:
    """Check that parameters, by their names with slashes, are the wanted ones, and finite.

    Raises:
      ValueError: naming a tensor that is missing, unknown, of another shape or type, or not finite.
    """
    if missing := [name for name in wanted if name not in flat]:
        raise ValueError(f"{missing[0]} is missing")
    for name, leaf in sorted(flat.items()):
        if name not in wanted:
            raise ValueError(
                f"{told(name)} is no parameter of this model{did_you_mean(name, wanted)}"
            )
        like, shape = wanted[name], tuple(np.shape(leaf))
        kind = getattr(leaf, "dtype", type(leaf).__name__)
        if shape != like.shape or kind != like.dtype:
            raise ValueError(
                f"{name} is {kind}{list(shape)}, must be {like.dtype}{list(like.shape)}"
            )
        if not np.all(np.isfinite(leaf)):
            raise ValueError(f"{name} holds numbers that are not finite")


def _missing(name: str) -> str:
    """What to tell of a model that is not there."""
    names = shipped_names()
    if name in UNPACKAGED and name not in names:
        return (
            f"model {name!r} is not installed with herjax: it is in herjax/pretrained of the"
            " repository; give the path of that folder"
        )
    return (
        f"no model {told(name)}{did_you_mean(name, names)}: give one of {', '.join(names)},"
        " or a folder with config.json and model.safetensors"
    )


@cache
def shipped_base() -> Pretrained:
    """The shipped model to adapt, read once."""
    return load_pretrained(BASE)


def load_decoder(params: Pretrained | str | os.PathLike | None) -> Pretrained:
    """The decoder that ``adapt`` was given; the shipped base for None.

    Raises:
      ValueError: if ``params`` is no decoder.
      CheckpointError: if it names no model, or a damaged one.
    """
    if params is None:
        return shipped_base()
    if isinstance(params, str | os.PathLike):
        return load_pretrained(params)
    if not isinstance(params, Pretrained):
        raise ValueError(
            "params must be a Pretrained, such as Result.adapted, a name or folder for"
            f" load_pretrained, or None, got {type(params).__name__}"
        )
    return params
