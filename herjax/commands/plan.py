"""What herjax would do on an accelerator that is not here.

python -m experiments.plan --device=v5e:4x4 --mesh=data:8,model:2 --preset=large
python -m experiments.plan --device=h200 --task=25-squares --members=256 --dtype=bfloat16

The real compilers make the programs of pretraining (--preset) and of adaptation (--task), on this
CPU. Told are what each takes and says, and a bound of its speed; nothing runs, no speed is seen.
Prints a table and writes plan.json. Needs the extra tpu or cuda12.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import Mesh
from rich.console import Console
from rich.table import Table

from herjax.commands import cli
from herjax.commands.flags import define_flags, own_code, read_flags, to_json
from herjax.commands.named_tasks import chosen_tasks
from herjax.decoder import costs
from herjax.decoder.embedding import DTYPES
from herjax.decoder.model import Decoder
from herjax.decoder.weights import Pretrained, shipped_base
from herjax.learning import population
from herjax.learning.config import AdaptConfig
from herjax.learning.epoch import init_adaptation
from herjax.learning.hindsight import hindsight
from herjax.learning.presets import PRESETS, PretrainConfig
from herjax.learning.pretraining import (
    EVAL_CHUNK,
    SAMPLES,
    compiled_step,
    initial_state,
    solve_chunk,
)
from herjax.learning.room import default_slots
from herjax.runtime import compiled
from herjax.runtime.devices import KINDS, Place, absent_devices, parse_device
from herjax.runtime.files import write_atomically
from herjax.runtime.sharding import make_mesh, parse_mesh, replicated, state_shardings
from herjax.tasks.random import check_program
from herjax.tasks.task import Task, canvas_side

DEVICE = flags.DEFINE_string(
    "device",
    None,
    f"One of {', '.join(KINDS)}; a slice such as v5e:4x4 or v5p:2x2x1; cards of a host, h200:8, or"
    " of several, h200:2x8.",
    required=True,
)
PRESET = flags.DEFINE_enum("preset", None, sorted(PRESETS), "Plan this pretraining.")
TASK = flags.DEFINE_string("task", None, "Plan the adaptation to this picture.")
MEMBERS = flags.DEFINE_integer(
    "members", 1, "Members of the population.", lower_bound=1, upper_bound=10**6
)
DTYPE = flags.DEFINE_enum("dtype", "float32", DTYPES, "What the adaptation computes products in.")
WORKDIR = flags.DEFINE_string("workdir", "runs/plan", "Folder for plan.json.")
define_flags(PretrainConfig())
flags.declare_key_flag("mesh")


@dataclasses.dataclass(frozen=True)
class Planned:
    """A program to compile, and the least that one device must do to run it."""

    name: str
    lower: Callable[[], jax.stages.Lowered]
    programs: int  # that all devices make or train on
    flops: float  # of the products that one device must make
    bytes: float  # that one device must move
    dtype: str


def shapes_of(tree: Any, shardings: Any) -> Any:
    """Shapes of arrays that no device holds, placed as ``shardings`` says."""

    def shape_of(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(shape_of, tree, shardings)


def size_of(tree: Any) -> int:
    """Bytes of arrays."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def pretraining(config: PretrainConfig, mesh: Mesh) -> Iterator[Planned]:
    """The step of a pretraining, and the sampler of its evaluation, both of the largest canvases.

    Raises:
      ValueError: if the batch does not divide among the devices on "data".
    """
    data, split = mesh.shape["data"], mesh.shape["model"]
    if config.batch_size % data:
        raise ValueError(f"batch_size {config.batch_size} is not a multiple of {data}")
    state = jax.eval_shape(lambda: initial_state(config))
    state = shapes_of(state, state_shardings(mesh, state))
    model, draws = config.model, config.tasks.max_draws
    bucket, cells = len(config.size_limits) - 1, config.size_limits[-1]
    trained = costs.train_flops(model, cells, draws, config.batch_size)
    yield Planned(
        "pretraining step",
        lambda: compiled_step.lower(state, config=config, bucket=bucket, mesh=mesh),
        config.batch_size,
        trained / mesh.size + costs.muon_flops(model) / split,
        2 * size_of(state) / split,  # read, and written
        model.dtype,
    )
    tasks, tries = -(-EVAL_CHUNK // data), draws + 2
    params = state.params
    start, heat = (
        jax.ShapeDtypeStruct((), kind, sharding=replicated(mesh)) for kind in (np.int32, np.float32)
    )
    sampled = costs.decode_flops(model, cells, tries, SAMPLES)
    yield Planned(
        "sampler",
        lambda: solve_chunk.lower(
            params, start, heat, config=config, bucket=bucket, samples=SAMPLES, mesh=mesh
        ),
        EVAL_CHUNK * SAMPLES,
        tasks * (costs.encode_flops(model, cells) + sampled) / split,
        costs.decode_bytes(model, cells, tries, SAMPLES, model.dtype) / split,
        model.dtype,
    )


def adaptation(
    pretrained: Pretrained,
    side: int,
    members: int,
    config: AdaptConfig,
    mesh: Mesh,
    platform: str,
) -> Planned:
    """An epoch of so many members, on a canvas of ``side``; as many as run at a time."""
    data, split = mesh.shape["data"], mesh.shape["model"]
    slots = -(-min(members, default_slots(data, platform)) // data) * data
    canvas = (side, side)

    def start(params: Any) -> Any:
        keys = jax.random.split(jax.random.key(0), slots)
        return jax.vmap(lambda key: init_adaptation(params, config, key, canvas))(keys)

    state = jax.eval_shape(start, pretrained.params)
    state = shapes_of(state, state_shardings(mesh, state, ("data",)))
    grid, number = jnp.zeros((slots, *canvas), jnp.int8), jnp.zeros(slots, jnp.int32)
    tasks = Task(input=grid, target=grid, height=number, width=number)
    tasks = shapes_of(tasks, state_shardings(mesh, tasks, ("data",)))
    epochs = jax.ShapeDtypeStruct((), np.int32, sharding=replicated(mesh))
    shape, cells = pretrained.model.config, side * side
    draws, each = config.draws(cells), slots // data
    flops = costs.encode_flops(shape, cells)
    flops += costs.decode_flops(shape, cells, draws, config.sampled)
    flops += costs.train_flops(shape, cells, draws, config.steps * config.minibatch)
    return Planned(
        f"epoch of {slots} members" if slots > 1 else "epoch",
        lambda: population.advance_members.lower(
            state,
            tasks,
            epochs,
            model=Decoder(shape, platform),
            config=config,
            learner=hindsight,
            mesh=mesh,
            vectorize=True,
        ),
        slots * config.sampled,
        each * flops / split,
        each * costs.decode_bytes(shape, cells, draws, config.sampled, shape.dtype) / split,
        shape.dtype,
    )


def report(planned: Planned, place: Place) -> dict[str, Any]:
    """Compile a program, and tell what it is like: numbers of one device.

    Raises:
      ValueError: if it does not compile, as when it needs more memory than a TPU has.
    """
    cli.say(f"compiling: {planned.name}")
    begun = time.perf_counter()
    lowered = planned.lower()
    traced = time.perf_counter()
    try:
        program = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{planned.name} does not compile for {place}: {reason}") from None
    done = time.perf_counter()
    text, cost, memory = program.as_text() or "", program.cost_analysis(), program.memory_analysis()
    kinds = ("argument", "output", "alias", "temp", "generated_code")
    held = {kind: int(getattr(memory, f"{kind}_size_in_bytes", 0)) for kind in kinds}
    total = held["argument"] + held["output"] - held["alias"] + held["temp"]
    total += held["generated_code"]
    # XLA:GPU counts nothing for a card that is not here.
    flops, moved = ((cost or {}).get(name) for name in ("flops", "bytes accessed"))
    kind = place.kind
    seconds = {
        "arithmetic": planned.flops / getattr(kind, planned.dtype),
        "memory": planned.bytes / kind.bandwidth,
    }
    slowest = max(seconds, key=lambda name: seconds[name])
    return {
        "seconds to trace": traced - begun,
        "seconds to compile": done - traced,
        "flops, each loop once": flops,
        "bytes, each loop once": moved,
        "flops a byte": flops / moved if flops and moved else None,
        "memory": {**held, "total": total, "of device": total / kind.memory},
        "collectives": compiled.collectives(text),
        "host calls": compiled.host_calls(text),
        "programs": planned.programs,
        "flops that must be": planned.flops,
        "bytes that must be moved": planned.bytes,
        "bound: programs/s at most": planned.programs / seconds[slowest],
        "bound by": slowest,
    }


def billions(count: float | None, unit: float = 1e9, name: str = " G") -> str:
    """A count for a table; "not told" for none."""
    return "not told" if count is None else cli.rounded(count / unit, 4) + name


def show(console: Console, place: Place, rows: dict[str, dict]) -> None:
    """The table that a person reads."""
    table = Table(f"a device of {place}", *rows)

    def add(name: str, tell: Callable[[dict], str]) -> None:
        table.add_row(name, *map(tell, rows.values()))

    add("compiled in", lambda row: f"{row['seconds to compile']:.0f} s")
    add("operations, each loop once", lambda row: billions(row["flops, each loop once"]))
    add("bytes, likewise", lambda row: billions(row["bytes, each loop once"]))
    add("operations a byte", lambda row: billions(row["flops a byte"], 1, ""))
    for name in ("argument", "temp", "total"):
        found = [f"{row['memory'][name] / 1e9:.3f} GB" for row in rows.values()]
        table.add_row(f"memory: {name}", *found)
    add("of the device's", lambda row: f"{100 * row['memory']['of device']:.1f} %")
    for kind in compiled.COLLECTIVES:
        if any(kind in row["collectives"] for row in rows.values()):
            none = {"count": 0, "bytes": 0}
            each = [row["collectives"].get(kind, none) for row in rows.values()]
            told = [f"{one['count']}, {cli.rounded(one['bytes'] / 1e6, 3)} MB" for one in each]
            table.add_row(kind, *told)
    add("calls of the host", lambda row: str(row["host calls"]))
    add(
        "bound: programs/s, at most",
        lambda row: f"{cli.rounded(row['bound: programs/s at most'], 3)} ({row['bound by']})",
    )
    console.print(table)


def plans(place: Place, mesh: Mesh, config: PretrainConfig) -> Iterator[Planned]:
    """What the flags ask for."""
    if PRESET.value:
        yield from pretraining(config, mesh)
    if TASK.value:
        pretrained = shipped_base().computing_in(DTYPE.value)
        max_side = pretrained.model.config.max_side
        pictures = chosen_tasks(TASK.value, max_side)
        if len(pictures) > 1:
            raise ValueError(f"--task={TASK.value}: one picture, got {len(pictures)}")
        picture = next(iter(pictures.values()))
        side = canvas_side(picture.target.shape, max_side)
        platform = place.kind.platform
        yield adaptation(pretrained, side, MEMBERS.value, AdaptConfig(), mesh, platform)


def main(_):
    """Compile what the flags ask for, and tell of it."""
    if not (PRESET.value or TASK.value):
        raise ValueError("nothing to plan: --preset plans a pretraining, --task an adaptation")
    place = parse_device(DEVICE.value)
    sizes = parse_mesh(cli.MESH.value) if cli.MESH.value else {"data": place.count, "model": 1}
    preset = PRESETS[PRESET.value] if PRESET.value else PretrainConfig()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # what was kept takes no seconds
    config = read_flags(preset, flags.FLAGS)
    check_program(config.tasks)
    mesh = make_mesh(sizes, absent_devices(place))
    asked = list(plans(place, mesh, config))
    folder = pathlib.Path(WORKDIR.value)
    run = {
        "device": str(place),
        "mesh": sizes,
        "pretraining": to_json(config) if PRESET.value else None,
        "task": TASK.value,
        "members": MEMBERS.value if TASK.value else None,
        "dtype": DTYPE.value if TASK.value else None,
        **own_code(),
    }
    with cli.claim(folder, run):
        rows = {planned.name: report(planned, place) for planned in asked}
    console = Console(width=120)
    show(console, place, rows)
    about = {**run, "maker's data": dataclasses.asdict(place.kind), "versions": cli.versions()}
    text = json.dumps({**about, "programs": rows}, indent=2) + "\n"
    write_atomically(folder / "plan.json", text.encode())
    console.print(f"written: {folder / 'plan.json'}")


if __name__ == "__main__":
    cli.run(main)
