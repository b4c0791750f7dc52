"""How much memory and disk an adaptation will take, told before it begins.

Counted are the arrays that grow with the settings; ``tests/test_room.py`` holds the sum to what
runs were measured to take.
"""

import contextlib
import os
import pathlib
import shutil
from collections import Counter
from collections.abc import Sequence

import jax
from jax.sharding import Mesh

from herjax.decoder.embedding import ModelConfig
from herjax.decoder.weights import Pretrained, parameter_count
from herjax.dsl.grammar import SLOTS
from herjax.dsl.ops import RECORD_SIZE
from herjax.learning.config import AdaptConfig
from herjax.runtime.machine import available_bytes
from herjax.runtime.xla_flags import jaxlib_version
from herjax.tasks.task import canvas_side

# On CPUs, XLA from jaxlib 0.11.1 on takes more to compile, and keeps what ``hindsight_bytes`` says.
RECENT_XLA = jaxlib_version() >= (0, 11, 1)
START = 1_050_000_000 if RECENT_XLA else 600_000_000  # bytes, with everything imported and compiled
FLOAT = 4  # bytes
REPORT = 1_000_000  # bytes of the files of a member that has ended
_SLOTS = {"cpu": 16, "gpu": 256, "tpu": 64}

Parts = dict[str, int]  # bytes, by what takes them and which settings change it


def weight_bytes(pretrained: Pretrained) -> int:
    """Of the parameters."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pretrained.params))


def state_bytes(weights: int, config: AdaptConfig, cells: int) -> Parts:
    """Of one member: what ``AdaptState`` holds, with weights of so many bytes."""
    draws = config.draws(cells)
    programs = config.programs_an_epoch
    row = programs * (draws * RECORD_SIZE + FLOAT) + cells + 7 * FLOAT
    return {
        "the weights and their optimiser": 3 * weights,
        "the history (max_epochs, programs, max_draws)": config.max_epochs * row,
        "the pictures remembered (max_epochs, programs)": 8 * programs * config.max_epochs,
    }


def training_bytes(model: ModelConfig, batch: int, cells: int, draws: int) -> int:
    """Of the activations of one step on so many pairs, forward and backward."""
    tokens = SLOTS * draws + 1
    blocks = model.layers * cells + model.program_layers * tokens
    dense = (8 + 2 * model.mlp_ratio) * model.width * blocks
    seen = model.layers * cells**2 + model.program_layers * tokens * (cells + tokens)
    points = 6 * draws * cells
    return FLOAT * batch * (dense + 2 * model.heads * seen + points)


def sampling_bytes(model: ModelConfig, programs: int, cells: int, draws: int) -> int:
    """Of the keys and values, the scores and the tokens of so many programs."""
    cache = 2 * model.program_layers * (draws + 1 + SLOTS) * model.width
    scores = 3 * model.heads * (cells + draws) + 4 * cells + 4 * (2 + model.mlp_ratio) * model.width
    return FLOAT * programs * (cache + scores + 4 * SLOTS * (draws + 2))


def hindsight_bytes(config: AdaptConfig, cells: int) -> int:
    """Of what programs paint, who takes whose draws, and which pictures are the same."""
    draws, programs = config.draws(cells), config.programs_an_epoch
    painted = programs * draws * (cells + draws)
    offers = 2 * FLOAT * config.others * draws * (config.sampled + config.kept)
    kept = RECENT_XLA or jax.default_backend() != "cpu"  # while compared with what is remembered
    compared = programs * (kept * programs * config.max_epochs + 2 * programs)
    return painted + offers + compared


def epoch_bytes(model: ModelConfig, config: AdaptConfig, cells: int) -> Parts:
    """Of one epoch of one member, while it runs: by its phases, of which the largest counts."""
    draws = config.draws(cells)
    return {
        "sampling (programs, max_draws)": sampling_bytes(model, config.sampled, cells, draws),
        "telling what is new (programs, max_epochs)": hindsight_bytes(config, cells),
        "the training step (minibatch, fresh, max_draws)": training_bytes(
            model, config.minibatch + config.fresh, cells, draws
        ),
    }


def adaptation_bytes(
    pretrained: Pretrained, config: AdaptConfig, cells: int, slots: int = 1, at_once: int = 1
) -> Parts:
    """Of ``slots`` members on a canvas of so many cells, of which ``at_once`` run at a time."""
    weights = weight_bytes(pretrained)
    copies = slots + (slots if slots > 1 else 1)  # one more while it is filled, saved or told of
    parts = {n: copies * size for n, size in state_bytes(weights, config, cells).items()}
    phases = epoch_bytes(pretrained.model.config, config, cells)
    largest = max(phases, key=lambda name: phases[name])
    return {**parts, largest: at_once * phases[largest]}


def default_slots(devices: int, platform: str) -> int:
    """Members at a time on so many devices of "data", where nothing is asked for."""
    return devices * _SLOTS.get(platform, 16)


def check_room(
    shapes: Sequence[tuple[int, ...]],
    pretrained: Pretrained,
    config: AdaptConfig,
    *,
    mesh: Mesh | None = None,
    slots: int = 1,
    available: int | None = None,
) -> None:
    """Refuse adaptations that would not fit into memory.

    Args:
      shapes: (R, C) of the picture of each member; those of one canvas are adapted together.
      pretrained: what all start from.
      config: of all members.
      mesh: the devices; one of the platform if None.
      slots: as of ``Population``.
      available: bytes; what the machine, or an accelerator, has left if None.

    Raises:
      ValueError: with the numbers, and the settings that make most of it.
    """
    device = (mesh.devices.flat if mesh else jax.devices())[0]
    devices = mesh.shape["data"] if mesh else 1
    max_side = pretrained.model.config.max_side
    groups = Counter(canvas_side(shape, max_side) for shape in shapes)
    on_cpu = device.platform == "cpu"
    if available is None:
        # An accelerator that does not count its bytes is not asked.
        limit = (device.memory_stats() or {}).get("bytes_limit") if not on_cpu else None
        available = available_bytes() if on_cpu else limit
    for side, members in groups.items():
        share = -(-min(slots or default_slots(devices, device.platform), members) // devices)
        together, at_once = share * devices, min(members, devices)
        if not on_cpu:  # each has memory of its own, and its members as one batch
            together = at_once = share
        parts = adaptation_bytes(pretrained, config, side * side, together, at_once)
        _refuse_beyond(parts, available, "memory", START if on_cpu else 0)


def check_pretraining(
    model: ModelConfig,
    batch: int,
    microbatch: int,
    draws: int,
    devices: int = 1,
    available: int | None = None,
) -> None:
    """Refuse a pretraining that would not fit into the memory of this machine.

    Args:
      model: the decoder.
      batch: programs a step on each device.
      microbatch: programs at a time on each.
      draws: of a program, at most.
      devices: of this machine.
      available: bytes; what the machine has left if None. Accelerators are not asked.

    Raises:
      ValueError: with the numbers, and the settings that make most of it.
    """
    cells = model.max_side**2
    held = "model" if devices == 1 else f"model, {devices} times; once with mesh data:1"
    parts = {
        f"the weights and their optimiser ({held})": 4 * FLOAT * parameter_count(model),
        "the tasks of a step (batch_size)": batch * 2 * (cells + draws * RECORD_SIZE * FLOAT),
        "the training step (microbatch)": training_bytes(model, microbatch, cells, draws),
    }
    if jax.default_backend() == "cpu":
        parts = {name: devices * size for name, size in parts.items()}
        _refuse_beyond(parts, available_bytes() if available is None else available, "memory")


def check_disk(
    folder: str | os.PathLike,
    pretrained: Pretrained,
    shapes: Sequence[tuple[int, ...]],
    config: AdaptConfig,
    *,
    slots: int = 1,
    weights: bool = False,
    free: int | None = None,
) -> None:
    """Refuse a run whose checkpoints and reports would not fit on the disk of its folder.

    Args:
      folder: of the run; it need not be there. What is there already is part of what it takes.
      pretrained: what all members start from.
      shapes: (R, C) of the picture of each.
      config: of all.
      slots: members that a checkpoint holds, at most.
      weights: whether the adapted weights are kept.
      free: bytes; those of the disk if None.

    Raises:
      ValueError: with the numbers.
    """
    size = weight_bytes(pretrained)
    most = pretrained.model.config.max_side
    side = max(canvas_side(shape, most) for shape in shapes)
    saved = sum(state_bytes(size, config, side * side).values()) * min(slots, len(shapes))
    parts = {
        "the checkpoints (max_epochs, programs, slots)": 3 * saved,  # two, and one being written
        "the reports (seeds)": len(shapes) * REPORT,
        "the adapted weights (save_weights)": len(shapes) * size * weights,
    }
    place = pathlib.Path(folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free if free is None else free
    if sum(parts.values()) > free and (place / "run.json").exists():
        free += _written(place)
    _refuse_beyond(parts, free, f"disk at {place}", start=0)


def _written(folder: pathlib.Path) -> int:
    """Bytes of the files of a run, which another process may be writing or removing."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(parent, name)).st_size
    return size


def _refuse_beyond(parts: Parts, available: int | None, what: str, start: int = START) -> None:
    total = start + sum(parts.values())
    if available is not None and total > available:
        most = max(parts, key=lambda name: parts[name])
        raise ValueError(
            f"this would take about {_gigabytes(total)} of {what}, there are"
            f" {_gigabytes(available)}; {_gigabytes(parts[most])} are {most}"
        )


def _gigabytes(count: int) -> str:
    if count < 10**8:
        return f"{count / 1e6:,.1f} MB"
    return f"{count / 1e9:,.1f} GB" if count < 10**15 else f"{count / 1e9:.1e} GB"
