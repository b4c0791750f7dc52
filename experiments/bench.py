"""How fast herjax is on this machine: python -m experiments.bench --workdir=runs/bench

Speeds of every stage, as they are and as a fraction of a ceiling measured in the same run: the
dense matrix-product rate, or for decoding the slower of arithmetic and memory. Prints tables and
writes bench.json. The operations assumed are those of herjax/decoder/costs.py.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

import herjax
from herjax.commands import cli
from herjax.decoder import costs
from herjax.decoder.embedding import DTYPES
from herjax.decoder.sampler import sample
from herjax.decoder.weights import shipped_base
from herjax.dsl.source import Call, draw_call, program_calls
from herjax.learning.attempts import in_hindsight, sample_programs
from herjax.learning.config import AdaptConfig
from herjax.learning.epoch import compiled_epochs, init_adaptation, runs_for
from herjax.learning.hindsight import train_on
from herjax.learning.population import Population
from herjax.learning.presets import PRESETS
from herjax.learning.pretraining import cpu_devices_of, init_state, pretrain_step
from herjax.learning.recombination import recombine
from herjax.runtime import program_cache
from herjax.runtime.config import did_you_mean, told
from herjax.runtime.files import write_atomically
from herjax.runtime.machine import processors
from herjax.runtime.sharding import over_data, replicated
from herjax.runtime.xla_flags import HOURS, compiler_options
from herjax.tasks.random import random_program, size_buckets

STAGES = ("executor", "sampling", "pretraining", "epoch", "population", "compilation")
WORKDIR = flags.DEFINE_string("workdir", "runs/bench", "Folder for bench.json.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "base", "Shipped name, or folder with weights.")
DTYPE = flags.DEFINE_enum("dtype", "float32", DTYPES, "What the decoder computes products in.")
MEMBERS = flags.DEFINE_string(
    "members", None, "Sizes of populations, with commas; default by device."
)
ONLY = flags.DEFINE_list("only", None, f"Stages, with commas, of {', '.join(STAGES)}; default all.")
PROFILE = flags.DEFINE_string(
    "profile", None, "Folder for a trace of what is timed, for TensorBoard's profiler or XProf."
)
CELLS, DRAWS = 100, 32  # of the canvas 10x10 and the programs that are timed


def seconds(run, repeats: int = 5) -> float:
    """Best time of ``run``, which returns arrays, after one call to warm up."""
    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return min(times)


def ceilings() -> dict[str, float]:
    """Dense matrix products, FLOP/s, by type; and copying, bytes/s read and written.

    On CPUs products of bfloat16 are summed up, and handed out, in float32, as the decoder does it.
    The ceiling is a row of products as long as a training step. One product alone, 10 ms on a CPU,
    now and then meets a clock that is not kept up for longer; its best rate is given beside it.
    """
    on_cpu = jax.default_backend() == "cpu"
    size, in_a_row = 1024 if on_cpu else 8192, 32
    dot = partial(jnp.dot, preferred_element_type=jnp.float32 if on_cpu else None)
    rates = {}
    for dtype in ("float32", "bfloat16"):
        x = jnp.ones((size, size), dtype) / size

        @jax.jit
        def products(x, count):
            return jax.lax.fori_loop(0, count, lambda _, y: dot(y, x).astype(x.dtype), x)

        rates[f"matmul_{dtype}"] = in_a_row * 2 * size**3 / seconds(partial(products, x, in_a_row))
        rates[f"{dtype}, one alone"] = 2 * size**3 / seconds(partial(jax.jit(dot), x, x), 20)
    if on_cpu:  # NumPy copies faster than XLA, into pages already there
        here, there = np.ones((2, 2**26), np.float32)
        rates["copy"] = 2 * here.nbytes / seconds(partial(np.copyto, there, here))
    else:
        x = jnp.ones(2**28, jnp.float32)
        rates["copy"] = 2 * x.nbytes / seconds(partial(jax.jit(lambda x: x + 1), x))
    return rates


def draw_plainly(calls: list[Call], canvas: np.ndarray) -> np.ndarray:
    """A program as exported ones run: NumPy and scikit-image, a call at a time."""
    picture = canvas.copy()
    for call in calls:
        draw_call(picture, call)
    return picture


def bench_executor(count: int = 4096) -> dict[str, dict[str, float]]:
    """Programs of 5 draws on 10x10, as in pretraining, and of 32."""
    rows = {}
    for draws in (5, DRAWS):
        keys = jax.random.split(jax.random.key(0), count)
        side = jnp.int32(10)
        make = jax.vmap(partial(random_program, height=side, width=side, max_draws=draws))
        programs = jax.jit(make)(keys)
        blank = jnp.zeros((10, 10), jnp.int8)
        run = jax.jit(jax.vmap(herjax.execute, (0, None)))
        rate = count / seconds(partial(run, programs, blank))
        canvas, plain = np.asarray(blank), 0.0
        some = [program_calls(program) for program in np.asarray(programs[:512])]
        for _ in range(3):
            start = time.perf_counter()
            pictures = [draw_plainly(calls, canvas) for calls in some]
            plain = max(plain, len(some) / (time.perf_counter() - start))
        if not np.array_equal(np.stack(pictures), run(programs[:512], blank)):
            raise AssertionError("the executor and the plain calls differ")
        mean_draws = float((programs[..., 0] > 0).sum() / count)
        rows[f"up to {draws} draws"] = {
            "programs/s": rate,
            "draws/s": rate * mean_draws,
            "plain calls, programs/s": plain,
            "ratio": rate / plain,
        }
    return rows


def bench_sampling(pretrained: herjax.Pretrained, task: herjax.Task, ceiling: dict) -> dict:
    """Programs of exactly 32 draws, spread over all devices: on CPUs one a core.

    Compiled like what scores checkpoints in pretraining; an adaptation is sooner compiled.
    """
    model, rows, mesh = pretrained.model, {}, cli.mesh()
    shape, options = model.config, compiler_options(jax.default_backend(), HOURS)
    params, key = jax.device_put((pretrained.params, jax.random.key(0)), replicated(mesh))
    for programs in (16, 64, 256):

        @partial(jax.jit, compiler_options=options)
        def run(params, key, programs=programs):
            heat = over_data(jnp.ones(programs), mesh)
            return sample(model, params, task, key, heat, DRAWS, CELLS, DRAWS).program

        spent = seconds(partial(run, params, key))
        flops = costs.encode_flops(shape, CELLS) + costs.decode_flops(shape, CELLS, DRAWS, programs)
        moved = costs.decode_bytes(shape, CELLS, DRAWS, programs, model.hidden_dtype)
        roof = max(flops / ceiling[f"matmul_{DTYPE.value}"], moved / ceiling["copy"])
        rows[f"G = {programs}"] = {
            "programs/s": programs / spent,
            "tokens/s": 4 * DRAWS * programs / spent,
            "MFLOP a program": flops / programs / 1e6,
            "MB a program": moved / programs / 1e6,
            "of roofline": roof / spent,
        }
    return rows


def bench_training(ceiling: dict) -> dict:
    """Pretraining steps of preset base-10, by bucket of canvas areas; making tasks included.

    Spread over as many devices as can share a step, on CPUs one a core, as pretraining is. The
    fraction is of what all programs would take on the bucket's largest canvas; "without padding",
    of what they take on their own, on average.
    """
    config, rows = PRESETS["base-10"], {}
    mesh = cli.mesh(cpu_devices_of(config, len(jax.devices())))
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype=DTYPE.value))

    def flops(cells):
        each = config.tasks.max_draws, config.batch_size
        return costs.muon_flops(config.model) + costs.train_flops(config.model, cells, *each)

    for bucket, cells in enumerate(config.size_limits):
        if cells not in (56, 100):
            continue
        state = [init_state(config, mesh)]

        def run(state=state, bucket=bucket):
            state[0], metrics = pretrain_step(state[0], config, bucket, mesh)
            return metrics["loss"]

        spent = seconds(run)
        areas = size_buckets(config.tasks, config.size_limits)[bucket].prod(axis=1)
        most = ceiling[f"matmul_{DTYPE.value}"] * spent
        rows[f"batch 128, {cells} cells"] = {
            "programs/s": config.batch_size / spent,
            "GFLOP a step": flops(cells) / 1e9,
            "of ceiling": flops(cells) / most,
            "without padding": np.mean([flops(int(area)) for area in areas]) / most,
        }
    return rows


def bench_epoch(name: str) -> dict[str, float]:
    """Seconds of the stages of the fourth epoch, run apart, and the share of recombination."""
    picture, config, key = herjax.pictures()[name], AdaptConfig(), jax.random.key(0)
    task, shape = herjax.make_task(picture), picture.target.shape
    base = shipped_base().computing_in(DTYPE.value)
    model, params = base.model, base.params
    state = init_adaptation(params, config, key, shape)
    state = compiled_epochs(model, state, task, config, 3)
    programs = state.history.program[2].astype(jnp.int32)
    parents = programs[: config.sampled + config.kept]

    def timed(function, *arrays):
        options = compiler_options(jax.default_backend(), runs_for(task.target))
        return seconds(partial(jax.jit(function, compiler_options=options), *arrays))

    attempts = jax.jit(lambda programs: in_hindsight(programs, task, config))(programs)
    heat = jnp.array(config.epoch_temperatures)
    pairs = jax.tree.map(lambda leaf: leaf[-config.pairs :], attempts)
    count = jnp.int32(config.pairs)
    stages = {
        "sample": timed(
            lambda params: sample_programs(model, params, task, config, key, heat)[0],
            state.train.params,
        ),
        "recombine": timed(lambda p: recombine(p, task, config.others, key), parents),
        "run and rewrite": timed(lambda p: in_hindsight(p, task, config), programs),
        "train": timed(
            lambda train: train_on(model, train, task, pairs, count, config, key)[1],
            state.train,
        ),
    }
    children = stages["recombine"] + stages["run and rewrite"] / 2
    return {**stages, "share of recombination": children / sum(stages.values())}


def bench_compilation(pretrained: herjax.Pretrained, task: herjax.Task) -> dict:
    """Seconds from the weights to the end of the first epoch, as her_adapt runs it."""
    times, keys, cache = {}, jax.random.key(0)[None], tempfile.TemporaryDirectory()
    program_cache.keep_in(cache.name)
    for name in ("nothing kept", "kept"):
        program_cache.clear()
        start = time.perf_counter()
        Population(pretrained, [task], keys, AdaptConfig(), mesh=cli.mesh(1)).advance(1)
        times[name] = time.perf_counter() - start
    return times


def bench_population(pretrained: herjax.Pretrained, task: herjax.Task, epochs: int = 4) -> dict:
    """Members at once, against as many single runs of the same epochs one after the other."""
    if MEMBERS.value:
        counts = sizes(MEMBERS.value)
    else:
        counts = [1, 4, 16] if jax.default_backend() == "cpu" else [1, 16, 64, 256, 1024]
    config = AdaptConfig.plain()  # recombined, members end before they are timed
    rows: dict[str, dict] = {}
    alone = math.nan
    for members in sorted({1, *counts}):
        keys = jax.vmap(jax.random.key)(jnp.arange(members))
        mesh = cli.mesh(members)
        population = Population(pretrained, [task] * members, keys, config, mesh=mesh)
        population.advance(1)
        start = time.perf_counter()
        population.advance(epochs)
        spent = (time.perf_counter() - start) / epochs
        alone = spent if members == 1 else alone
        rows[f"{members} members"] = {
            "devices": mesh.size,
            "seconds an epoch of all": spent,
            "over single runs": spent / (members * alone),
            "programs/s": members * config.sampled / spent,
        }
    return rows


def peak_memory() -> int:
    """Most bytes held so far: by the device if it counts them, else by this process."""
    stats = jax.devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return (
        stats.get("peak_bytes_in_use") or unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )


def show(console: Console, name: str, values: dict) -> None:
    """A table of rows of numbers, or of single numbers."""
    rows = values if isinstance(next(iter(values.values())), dict) else {"": values}
    columns = list(next(iter(rows.values())))
    table = Table(name, *columns)
    for label, row in rows.items():
        table.add_row(label, *(cli.rounded(row[column], 4) for column in columns))
    console.print(table)


def sizes(text: str) -> list[int]:
    """Sizes of populations: "1,16".

    Raises:
      ValueError: if there is another thing among them.
    """
    if not all(part.isdecimal() and 1 <= int(part) <= 10**6 for part in text.split(",")):
        raise ValueError(f"--members must be counts with commas, such as 1,16; got {text[:40]!r}")
    return [int(part) for part in text.split(",")]


def stages_of(
    pretrained: herjax.Pretrained, task: herjax.Task, ceiling: dict
) -> dict[str, tuple[str, Callable[[], dict]]]:
    """Title of each of STAGES, and what times it."""
    return {
        "executor": ("executor, 10x10", bench_executor),
        "sampling": (
            f"sampling, 10x10, {DRAWS} draws",
            partial(bench_sampling, pretrained, task, ceiling),
        ),
        "pretraining": ("pretraining", partial(bench_training, ceiling)),
        "epoch": (
            "epoch, seconds",
            lambda: {n: bench_epoch(n) for n in ("25-squares", "100-squares")},
        ),
        "population": ("population, 25-squares", partial(bench_population, pretrained, task)),
        "compilation": (
            "to the first epoch, seconds",
            partial(bench_compilation, pretrained, task),
        ),
    }


def traced(stage: str) -> contextlib.AbstractContextManager:
    """Trace what runs inside, compilation included, into a folder of --profile, if it is given."""
    if PROFILE.value is None:
        return contextlib.nullcontext()
    return jax.profiler.trace(str(pathlib.Path(PROFILE.value, stage)))


def main(_):
    sizes(MEMBERS.value or "1")  # before the folder is claimed
    chosen = ONLY.value or list(STAGES)
    for stage in chosen:
        if stage not in STAGES:
            near = did_you_mean(stage, STAGES)
            raise ValueError(f"--only must be of {', '.join(STAGES)}; got {told(stage)}{near}")
    cli.use_devices(cpu_devices=processors())
    folder = pathlib.Path(WORKDIR.value)
    pretrained = herjax.load_pretrained(CHECKPOINT.value).computing_in(DTYPE.value)
    cli.claim(
        folder, {"bench": True, "dtype": DTYPE.value, "weights_sha256": pretrained.info["sha256"]}
    )
    task = herjax.make_task(herjax.pictures()["25-squares"].target)
    ceiling = ceilings()
    results: dict[str, dict] = {"ceilings, per second": ceiling}
    console = Console(width=120)
    show(console, "ceilings, per second", ceiling)
    stages = stages_of(pretrained, task, ceiling)
    for stage in chosen:
        name, run = stages[stage]
        with traced(stage):
            results[name] = run()
        show(console, name, results[name])
    peak = peak_memory()
    console.print(f"peak memory: {peak / 1e9:.2f} GB")
    about = {
        "device": jax.devices()[0].device_kind,
        "cpu_count": os.cpu_count(),
        "versions": cli.versions(),
        "model": dataclasses.asdict(pretrained.model.config),
    }
    text = json.dumps({**about, **results, "peak memory, bytes": peak}, indent=2) + "\n"
    write_atomically(folder / "bench.json", text.encode())
    console.print(f"written: {folder / 'bench.json'}")


if __name__ == "__main__":
    cli.run(main)
