"""Weights as safetensors beside a config.json, with a checksum; and the shipped models."""

import dataclasses
import hashlib
import json
import os
import pathlib
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy
from flax import traverse_util

from herjax.decoder.embedding import ModelConfig
from herjax.decoder.model import Decoder
from herjax.runtime.checkpoint import CheckpointError
from herjax.runtime.config import from_dict
from herjax.runtime.files import write_atomically
from herjax.tasks.task import check_size

SHIPPED = pathlib.Path(__file__).parents[1] / "pretrained"
BASES = ("base", "base-20")  # the shipped models to adapt, by the largest canvas they know
UNPACKAGED = ("base-weak-1", "base-weak-2", "base-weak-3")  # in SHIPPED of a checkout, in no wheel


class Pretrained(NamedTuple):
    """A decoder and its weights."""

    model: Decoder
    params: dict
    info: dict[str, Any]  # config.json: how it was made, and its evaluation

    def computing_in(self, dtype: str) -> "Pretrained":
        """The same weights with products of another ``ModelConfig.dtype``.

        Raises:
          ValueError: if there is no such type.
        """
        return self._replace(model=Decoder(dataclasses.replace(self.model.config, dtype=dtype)))


def shipped_names() -> list[str]:
    """Names that ``load_pretrained`` takes besides folders; a checkout has more than a wheel."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))


def save_weights(folder: str | pathlib.Path, config: ModelConfig, params: dict, info: dict) -> None:
    """Write model.safetensors and config.json, each atomically; info must be JSON."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    flat = traverse_util.flatten_dict(params["params"], sep="/")
    data = safetensors.numpy.save({name: np.asarray(leaf) for name, leaf in flat.items()})
    write_atomically(folder / "model.safetensors", data)
    shape = dataclasses.asdict(config)
    about = {"model": shape, "sha256": _digest(shape, data), **info}
    write_atomically(folder / "config.json", json.dumps(about, indent=2).encode() + b"\n")


def _digest(shape: dict, data: bytes) -> str:
    """sha256 of the model's configuration and its weights."""
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode() + data).hexdigest()


def load_pretrained(name: str | os.PathLike = "base") -> Pretrained:
    """Load a shipped model by name, or one from a folder that ``save_weights`` wrote.

    Raises:
      CheckpointError: if there is no such model, or its files are damaged.
    """
    folder = SHIPPED / name if str(name) in shipped_names() else pathlib.Path(name)
    try:
        info = json.loads((folder / "config.json").read_text())
        data = (folder / "model.safetensors").read_bytes()
    except FileNotFoundError:
        raise CheckpointError(_missing(str(name))) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"damaged model {folder}: {error}") from None
    try:
        if _digest(info["model"], data) != info["sha256"]:
            raise ValueError("model.safetensors or the model in config.json has another sha256")
        config = from_dict(ModelConfig(), info["model"])
        flat = safetensors.numpy.load(data)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"damaged model {folder}: {error}") from None
    # jnp.asarray would compile a program for each shape.
    params = traverse_util.unflatten_dict(jax.device_put(flat), sep="/")
    return Pretrained(Decoder(config), {"params": params}, info)


def _missing(name: str) -> str:
    """What to tell of a model that is not there."""
    names = shipped_names()
    if name in UNPACKAGED and name not in names:
        return (
            f"model {name!r} is not installed with herjax: it is in herjax/pretrained of the"
            " repository; give the path of that folder"
        )
    return (
        f"no model {name!r}: give one of {', '.join(names)},"
        " or a folder with config.json and model.safetensors"
    )


def pretrained_for(shape: tuple[int, ...]) -> Pretrained:
    """The shipped base for pictures of ``shape`` (R, C): small ones do not pay for larger ones.

    Raises:
      ValueError: if they are too large for all.
    """
    for name in BASES:
        pretrained = _load_once(name)
        if max(shape) <= pretrained.model.config.max_side:
            break
    check_size(shape, pretrained.model.config.max_side)
    return pretrained


_load_once = cache(load_pretrained)
