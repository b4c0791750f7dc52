"""Pretrain a decoder on random drawings: python -m experiments.pretrain --preset=base --workdir=DIR

Killed or stopped, the same command continues where it was.
"""

import dataclasses
import json
import pathlib
import time

import jax
from absl import flags
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments import cli
from herjax import config as config_lib
from herjax.checkpoint import Checkpoints
from herjax.pretraining import (
    PRESETS,
    PretrainConfig,
    bucket_of_step,
    evaluate,
    init_state,
    pretrain_step,
)
from herjax.weights import save_weights, write_atomically

PRESET = flags.DEFINE_enum("preset", "base", sorted(PRESETS), "Configuration to start from.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
config_lib.define_flags(PretrainConfig())


def trim_metrics(path: pathlib.Path, step: int) -> None:
    """Drop the lines that were logged after the step a run resumes from."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    write_atomically(path, "".join(line + "\n" for line in kept).encode())


def log(path: pathlib.Path, step: int, values: dict) -> None:
    """Append one line of metrics."""
    line = {"step": step, **{name: value for name, value in values.items()}}
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def run(config: PretrainConfig, workdir: pathlib.Path, stop: cli.StopSignals) -> None:
    """Train to the end, evaluate, and export the weights to ``workdir/model``."""
    checkpoints = Checkpoints(
        workdir / "checkpoints", json.loads(json.dumps(dataclasses.asdict(config)))
    )
    metrics_path = workdir / "metrics.jsonl"
    state = init_state(config)
    step = 0
    if (restored := checkpoints.restore_latest(state)) is not None:
        step, state = restored
        print(f"resuming at step {step} of {config.steps}", flush=True)
    trim_metrics(metrics_path, step)
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    print(
        f"{size:,} parameters, {config.steps:,} steps of {config.batch_size} programs", flush=True
    )
    columns = (
        TextColumn("pretraining"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[rate]:.0f} programs/s"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task("", total=config.steps, completed=step, loss=float("nan"), rate=0.0)
        since, since_step = time.monotonic(), step
        while step < config.steps:
            state, metrics = pretrain_step(state, config, bucket_of_step(config, step))
            step += 1
            if step % config.log_every == 0 or step == config.steps:
                values = {name: float(value) for name, value in metrics.items()}
                seconds = time.monotonic() - since
                rate = (step - since_step) * config.batch_size / seconds
                since, since_step = time.monotonic(), step
                log(metrics_path, step, {**values, "programs_per_second": round(rate, 1)})
                progress.update(bar, completed=step, loss=values["loss"], rate=rate)
            if step in config.snapshots:
                export(workdir / f"snapshot-{step}", config, state.params, step, None)
            if step % config.eval_every == 0 and step < config.steps:
                result = evaluate(state.params, config, config.eval_tasks)
                log(metrics_path, step, result)
                progress.console.print(f"step {step}: {cli.short(result)}")
                since, since_step = time.monotonic(), step
            if step % config.checkpoint_every == 0 or step == config.steps or stop.received:
                checkpoints.save(step, state)
            if stop.received:
                progress.stop()
                cli.exit_stopped(stop, f"saved at step {step}; the same command continues")
    result = evaluate(state.params, config, config.final_eval_tasks)
    log(metrics_path, step, result)
    export(workdir / "model", config, state.params, step, result)
    print(f"held-out: {cli.short(result)}\nweights: {workdir / 'model'}", flush=True)


def export(folder: pathlib.Path, config: PretrainConfig, params, step: int, evaluation) -> None:
    """Write the weights, and in config.json how they were made."""
    info = {
        "pretraining": dataclasses.asdict(config),
        "step": step,
        "programs_seen": step * config.batch_size,
        "held_out": evaluation or evaluate(params, config, config.final_eval_tasks),
        "versions": cli.versions(),
        "device": jax.devices()[0].device_kind,
    }
    save_weights(folder, config.model, params, info)


def main(_):
    config = config_lib.read_flags(PRESETS[PRESET.value], flags.FLAGS)
    workdir = pathlib.Path(WORKDIR.value)
    workdir.mkdir(parents=True, exist_ok=True)
    with cli.StopSignals() as stop:
        run(config, workdir, stop)


if __name__ == "__main__":
    cli.run(main)
