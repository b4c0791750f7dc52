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
from herjax.train import TrainState
from herjax.weights import load_pretrained, save_weights

PRESET = flags.DEFINE_enum("preset", "base", sorted(PRESETS), "Configuration to start from.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
config_lib.define_flags(PretrainConfig())


def run(
    config: PretrainConfig, state: TrainState, workdir: pathlib.Path, stop: cli.StopSignals
) -> None:
    """Train to the end, evaluate, and export the weights to ``workdir/model``."""
    checkpoints = Checkpoints(workdir / "checkpoints")
    metrics_path = workdir / "metrics.jsonl"
    step = 0
    if (restored := checkpoints.restore_latest(state)) is not None:
        step, state = restored
        print(f"resuming at step {step} of {config.steps}", flush=True)
    # Drop what was logged after the step to resume from: it is logged again.
    lines = [line for line in cli.read_lines(metrics_path) if line["step"] <= step]
    cli.write_lines(metrics_path, lines)
    evaluated = {line["step"] for line in lines if "pass@1" in line}
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
        while True:
            snapshot = workdir / f"snapshot-{step}"
            if step in config.snapshots and not snapshot.exists():
                export(snapshot, config, state.params, step, stop)
            if evaluates(config, step) and step not in evaluated:
                result = evaluate(state.params, config, config.eval_tasks)
                cli.append_line(metrics_path, {"step": step, **result})
                progress.console.print(f"step {step}: {cli.short(result)}")
                since, since_step = time.monotonic(), step
            if step == config.steps or stop.received:
                break
            state, metrics = pretrain_step(state, config, bucket_of_step(config, step))
            step += 1
            if step % config.log_every == 0 or step == config.steps:
                values = {name: float(value) for name, value in metrics.items()}
                seconds = time.monotonic() - since
                rate = round((step - since_step) * config.batch_size / seconds, 1)
                since, since_step = time.monotonic(), step
                cli.append_line(metrics_path, {"step": step, **values, "programs_per_second": rate})
                progress.update(bar, completed=step, loss=values["loss"], rate=rate)
            due = step % config.checkpoint_every == 0 or evaluates(config, step)
            if due or step in config.snapshots:
                checkpoints.save(step, state)
    checkpoints.save(step, state)
    stop.leave(f"saved at step {step}")
    result = export(workdir / "model", config, state.params, step, stop)
    cli.append_line(metrics_path, {"step": step, **result})
    print(f"held-out: {cli.short(result)}\nweights: {workdir / 'model'}", flush=True)


def evaluates(config: PretrainConfig, step: int) -> bool:
    """Is there an evaluation after this step, before the final one."""
    return step > 0 and step % config.eval_every == 0 and step < config.steps


def export(folder, config: PretrainConfig, params, step: int, stop: cli.StopSignals) -> dict:
    """Evaluate and write the weights, and in config.json how they were made; -> evaluation."""
    result = evaluate(params, config, config.final_eval_tasks)
    stop.leave(f"saved at step {step}, its evaluation not done")
    info = {
        "pretraining": dataclasses.asdict(config),
        "step": step,
        "init_sha256": load_pretrained(config.init).info["sha256"] if config.init else None,
        "programs_seen": step * config.batch_size,  # those of --init not counted
        "held_out": result,
        "versions": cli.versions(),
        "device": jax.devices()[0].device_kind,
    }
    save_weights(folder, config.model, params, info)
    return result


def main(_):
    config = config_lib.read_flags(PRESETS[PRESET.value], flags.FLAGS)
    workdir = pathlib.Path(WORKDIR.value)
    state = init_state(config)  # before the folder is claimed: --init may be wrong
    # Through JSON, so that tuples compare equal to what is read back.
    cli.claim(workdir, json.loads(json.dumps(dataclasses.asdict(config))))
    if (workdir / "model" / "config.json").exists():
        print(f"{workdir} holds this run already, done: nothing to do")
        return
    with cli.StopSignals() as stop:
        run(config, state, workdir, stop)


if __name__ == "__main__":
    cli.run(main)
