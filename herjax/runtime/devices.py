"""Accelerators that are not here: what they can do, and as devices to compile for.

The compilers come with JAX's packages, run on a CPU, and make the program that the device would
run. What a device can do is what its maker says, each number with its source.
"""

import dataclasses
import importlib.util
import math
import os
import re

import jax
from jax.experimental import topologies

from herjax.runtime.config import did_you_mean, told

MOST_DEVICES = 256
CARDS = 8  # NVIDIA cards of one host


@dataclasses.dataclass(frozen=True)
class Kind:
    """One device, by its maker's data."""

    platform: str  # "tpu" or "gpu"
    bfloat16: float  # FLOP/s of dense matrix products
    float32: float  # likewise, at JAX's default precision
    bandwidth: float  # bytes/s of its memory
    memory: float  # bytes
    axes: int  # of a topology
    source: str


# float32 products are bfloat16 ones on a TPU, and TF32 on NVIDIA's, unless a program asks for more
# (jax.default_matmul_precision). NVIDIA gives rates with sparsity: half of them are dense.
KINDS = {
    "v5e": Kind(
        "tpu", 197e12, 197e12, 819e9, 16e9, 2, "https://docs.cloud.google.com/tpu/docs/v5e"
    ),
    "v5p": Kind(
        "tpu", 459e12, 459e12, 2765e9, 95e9, 3, "https://docs.cloud.google.com/tpu/docs/v5p"
    ),
    "v6e": Kind(
        "tpu", 918e12, 918e12, 1638e9, 32e9, 2, "https://docs.cloud.google.com/tpu/docs/v6e"
    ),
    "h100": Kind(
        "gpu", 989e12, 494e12, 3.35e12, 80e9, 2, "https://www.nvidia.com/en-us/data-center/h100"
    ),
    "h200": Kind(
        "gpu", 989e12, 494e12, 4.8e12, 141e9, 2, "https://www.nvidia.com/en-us/data-center/h200"
    ),
}
# What XLA asks of a card, as an H100 SXM answers: its GpuTargetConfigProto in text form.
_CARD = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth} l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: {memory} shared_memory_per_block_optin: 232448
  cuda_compute_capability {{ major: 9 }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}}
runtime_version {{ major: 12 minor: 9 patch: 0 }}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{name}"
"""


@dataclasses.dataclass(frozen=True)
class Place:
    """A kind of device, and how many of it: the chips of a slice, or hosts and their cards."""

    name: str  # in KINDS
    shape: tuple[int, ...]

    @property
    def kind(self) -> Kind:
        """What one of them can do."""
        return KINDS[self.name]

    @property
    def count(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.name}:{'x'.join(map(str, self.shape))}"


def parse_device(text: str) -> Place:
    """Devices by name: "v5e:4x4" and "v5p:2x2x1" slices, "h200:8" cards, "h100:2x8" hosts x cards.

    A name alone is one device.

    Raises:
      ValueError: if the name is unknown, or the rest no shape of so many axes, or too large.
    """
    name, colon, rest = text.partition(":")
    if name not in KINDS:
        near = did_you_mean(name, KINDS)
        raise ValueError(f"device {told(text)}: {', '.join(KINDS)} are known{near}")
    kind = KINDS[name]
    sizes = rest.split("x") if colon else ["1"] * kind.axes
    if kind.platform == "gpu" and len(sizes) == 1:
        sizes = ["1", *sizes]
    if len(sizes) != kind.axes or not all(re.fullmatch(r"[1-9]\d{0,3}", size) for size in sizes):
        if kind.platform == "gpu":
            raise ValueError(f"device {told(text)}: expected {name}:CARDS or {name}:HOSTSxCARDS")
        raise ValueError(f"device {told(text)}: expected {name}:{'x'.join('NNN'[: kind.axes])}")
    place = Place(name, tuple(map(int, sizes)))
    if place.count > MOST_DEVICES:
        raise ValueError(f"device {told(text)}: at most {MOST_DEVICES} devices, got {place.count}")
    if kind.platform == "gpu" and place.shape[-1] > CARDS:
        raise ValueError(f"device {told(text)}: at most {CARDS} cards a host")
    return place


def absent_devices(place: Place) -> list[jax.Device]:
    """Devices to compile for, whether or not they are here. JAX must run on the CPU.

    Raises:
      ValueError: if the compiler is not installed, or knows no such slice.
    """
    if place.kind.platform == "tpu":
        return _chips(place)
    return _cards(place)


def _chips(place: Place) -> list[jax.Device]:
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(f"{place}: the compiler for TPUs is missing: pip install 'herjax[tpu]'")
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # the metadata server, which only a TPU's host has
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # there is no TPU to lock
    slice_of = "x".join(map(str, place.shape))
    alone = {"chips_per_host_bounds": (1, 1, 1)} if place.count == 1 else {}
    try:
        found = topologies.get_topology_desc(f"{place.name}:{slice_of}", platform="tpu", **alone)
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"{place} is no slice: {str(error).splitlines()[0]}") from None
    return list(found.devices)


def _cards(place: Place) -> list[jax.Device]:
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    if not any(importlib.util.find_spec(name) for name in plugins):
        raise ValueError(
            f"{place}: the compiler for NVIDIA cards is missing: pip install 'herjax[cuda12]'"
        )
    kind, hosts_and_cards = place.kind, "x".join(map(str, place.shape))
    config = _CARD.format(
        bandwidth=int(kind.bandwidth), memory=int(kind.memory), name=place.name.upper()
    )
    found = topologies.get_topology_desc(
        place.name, "cuda", target_config=config, topology=f"1x{hosts_and_cards}"
    )
    return list(found.devices)
