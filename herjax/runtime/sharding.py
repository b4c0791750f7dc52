"""Meshes of devices, and where arrays live on them. One device is a mesh of one.

Axis "data" splits the batch of pretraining and the members of a population; axis "model" splits
the matrices of the decoder (Megatron's layout: Shoeybi et al., 2019).
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from herjax.runtime.config import told

AXES = ("data", "model")
SPLIT_OUTPUT = ("query", "key", "value", "up")  # dense layers whose output is split over "model"
SPLIT_INPUT = ("out", "down")  # those whose input is


def parse_mesh(text: str) -> dict[str, int]:
    """Sizes of the axes: "data:4,model:2", or "data:4"; a missing axis has size 1.

    Raises:
      ValueError: if an axis is unknown or said twice, or its size is no positive integer.
    """
    sizes = {}
    for part in text.split(","):
        name, _, size = part.partition(":")
        if name not in AXES or name in sizes or not size.isdecimal() or int(size) < 1:
            raise ValueError(f"mesh {text!r}: expected data:N or data:N,model:M with N, M >= 1")
        sizes[name] = int(size)
    return {name: sizes.get(name, 1) for name in AXES}


def make_mesh(
    sizes: dict[str, int] | None = None, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """A mesh over the first devices, or with all of them on "data".

    Args:
      sizes: of the axes, as from ``parse_mesh``.
      devices: those of this machine if None; they need not be here to compile for them.

    Raises:
      ValueError: if there are fewer devices than it needs.
    """
    devices = jax.devices() if devices is None else devices
    sizes = sizes or {"data": len(devices), "model": 1}
    shape = tuple(sizes[name] for name in AXES)
    if math.prod(shape) > len(devices):
        raise ValueError(
            f"a mesh of {shape[0]} x {shape[1]} needs {math.prod(shape)} devices,"
            f" here are {len(devices)}"
        )
    chosen = np.array(devices[: math.prod(shape)]).reshape(shape)
    return Mesh(chosen, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def check_mesh(mesh: Mesh | None) -> Mesh:
    """A mesh of someone's own as ``make_mesh`` makes them; None: all devices on "data".

    Raises:
      ValueError: if it has other axes than "data" and perhaps "model".
    """
    if mesh is None:
        return make_mesh()
    names = getattr(mesh, "axis_names", ())
    if "data" not in names or not set(names) <= set(AXES):
        raise ValueError(f'mesh must have the axes "data" and "model", or "data", got {told(mesh)}')
    devices = mesh.devices if mesh.axis_names[0] == "data" else mesh.devices.T
    return make_mesh({name: mesh.shape.get(name, 1) for name in AXES}, devices.flatten().tolist())


def platform_of(mesh: Mesh | None) -> str:
    """What the devices of a mesh are: "cpu", "gpu" or "tpu"; without one, JAX's default."""
    return jax.default_backend() if mesh is None else mesh.devices.flat[0].platform


def over_data_alone(mesh: Mesh) -> bool:
    """Are there several devices, all of them on "data"?"""
    return mesh.shape["data"] == mesh.size > 1


def state_shardings(mesh: Mesh, tree: Any, leading: tuple = ()) -> Any:
    """Shardings of a tree that may hold parameters and their optimiser state.

    Args:
      mesh: as from ``make_mesh``.
      tree: arrays or their shapes.
      leading: names of the mesh axes of the axes in front, ("data",) for members.

    Raises:
      ValueError: if "model" does not divide what it splits.
    """

    def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        names: list[Any] = [getattr(key, "key", None) for key in path]
        spec: list[str | None] = list(leading)
        if names[-1:] == ["kernel"] and leaf.ndim == len(leading) + 2:
            splits: dict[str, tuple[str | None, ...]] = {
                **{name: (None, "model") for name in SPLIT_OUTPUT},
                **{name: ("model", None) for name in SPLIT_INPUT},
            }
            spec += splits.get(names[-2], ())
        for size, axis in zip(leaf.shape, spec):
            if axis == "model" and size % mesh.shape[axis]:
                raise ValueError(
                    f"mesh model:{mesh.shape[axis]} does not divide the {size} rows or columns of"
                    f" the layer {names[-2]}"
                )
        return NamedSharding(mesh, P(*spec))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, P())


def whole(tree: Any) -> Any:
    """Inside ``shard_map``: not split over the axes that are left to the compiler, if any are."""
    return jax.lax.with_sharding_constraint(tree, P()) if left_to_compiler() else tree


def left_to_compiler() -> bool:
    """Inside ``shard_map``: is there an axis whose communication the compiler decides on?"""
    return AxisType.Auto in jax.sharding.get_abstract_mesh().axis_types


def over_data(batch: Any, mesh: Mesh | None) -> Any:
    """Inside ``jit``: spread the first axis of a tree of arrays over "data"."""
    if mesh is None:
        return batch
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, P("data")))
