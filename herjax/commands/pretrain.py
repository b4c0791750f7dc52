"""Pretrain a decoder on random drawings: python -m experiments.pretrain --preset=base --workdir=DIR

Killed or stopped, the same command continues where it was.
"""

import math
import pathlib
import time

import jax
from absl import flags
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from herjax.commands import cli
from herjax.commands.flags import define_flags, read_flags, to_json
from herjax.decoder.weights import load_pretrained, save_weights
from herjax.learning.pretraining import (
    PRESETS,
    PretrainConfig,
    bucket_of_step,
    evaluate,
    init_state,
    learning_rates,
    pretrain_step,
)
from herjax.learning.room import check_pretraining
from herjax.learning.train import TrainState
from herjax.runtime import processes
from herjax.runtime.checkpoint import Checkpoints
from herjax.runtime.sharding import replicated

PRESET = flags.DEFINE_enum("preset", "base", sorted(PRESETS), "Configuration to start from.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
define_flags(PretrainConfig())
flags.adopt_module_key_flags(cli)  # into --help


class Run:
    """A pretraining in its folder: where it stands, and what of it is on disk."""

    def __init__(
        self,
        config: PretrainConfig,
        state: TrainState,
        workdir: pathlib.Path,
        mesh: jax.sharding.Mesh,
    ):
        """From the newest checkpoint, or from ``state`` if there is none."""
        self.config, self.state, self.workdir, self.mesh = config, state, workdir, mesh
        self.checkpoints = Checkpoints(workdir / "checkpoints")
        self.metrics_path = workdir / "metrics.jsonl"
        self.step = 0
        if (restored := self.checkpoints.restore_latest(lambda _: state)) is not None:
            self.step, self.state, _ = restored
            cli.say(f"resuming at step {self.step} of {config.steps}")
        self.saved = self.step
        # Drop what was logged after the step to resume from: it is logged again.
        lines = [line for line in cli.read_lines(self.metrics_path) if line["step"] <= self.step]
        processes.on_first(lambda: cli.write_lines(self.metrics_path, lines))
        self.evaluated = {line["step"] for line in lines if "pass@1" in line}
        self.clock = time.monotonic(), self.step  # since when, and which step, the rate is measured

    def save(self) -> None:
        """Write a checkpoint of this step."""
        self.checkpoints.save(self.step, self.state)
        self.saved = self.step

    def keep_up(self, stop: cli.StopSignals, console: Console) -> None:
        """Whatever is due at this step: a snapshot, an evaluation, a checkpoint."""
        config, step = self.config, self.step
        snapshot = self.workdir / f"snapshot-{step}"
        if step in config.snapshots and not (snapshot / "config.json").exists():
            export(snapshot, config, self.state.params, step, self.mesh, stop)
        if evaluates(config, step) and step not in self.evaluated:
            result = evaluate(self.state.params, config, config.eval_tasks, mesh=self.mesh)
            cli.append_line(self.metrics_path, {"step": step, **result})
            console.print(f"step {step}: {cli.short(result)}")
            self.clock = time.monotonic(), step
        due = step % config.checkpoint_every == 0 or evaluates(config, step)
        if step > self.saved and (due or step in (config.steps, *config.snapshots)):
            self.save()

    def advance(self, stop: cli.StopSignals, progress: Progress, bar: TaskID) -> None:
        """One step, its metrics, and a look at whether to stop."""
        config = self.config
        bucket = bucket_of_step(config, self.step)
        self.state, metrics = pretrain_step(self.state, config, bucket, self.mesh)
        self.step += 1
        logs = self.step % config.log_every == 0 or self.step == config.steps
        if logs or self.step % config.checkpoint_every == 0:
            values = {name: float(value) for name, value in metrics.items()}
            require_finite(values, config, self.step, self.saved)
        if logs:
            since, since_step = self.clock
            self.clock = time.monotonic(), self.step
            programs = (self.step - since_step) * config.batch_size
            rate = round(programs / (self.clock[0] - since), 1)
            line = {"step": self.step, **values, "programs_per_second": rate}
            cli.append_line(self.metrics_path, line)
            progress.update(bar, completed=self.step, loss=values["loss"], rate=rate)
        # Several processes agree on it now and then, one looks after every step.
        if (logs or jax.process_count() == 1) and stop.came():
            self.save()
            stop.leave(f"saved at step {self.step}")

    def finish(self) -> None:
        """Train to the end, evaluate, and export the weights to ``workdir/model``."""
        config = self.config
        size = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        cli.say(f"{size:,} parameters, {config.steps:,} steps of {config.batch_size} programs")
        with cli.StopSignals() as stop, progress_bar() as progress:
            bar = progress.add_task(
                "", total=config.steps, completed=self.step, loss=float("nan"), rate=0.0
            )
            self.clock = time.monotonic(), self.step
            while True:
                self.keep_up(stop, progress.console)
                if self.step == config.steps:
                    break
                self.advance(stop, progress, bar)
            model, params = self.workdir / "model", self.state.params
            result = export(model, config, params, self.step, self.mesh, stop)
        cli.append_line(self.metrics_path, {"step": self.step, **result})
        cli.say(f"held-out: {cli.short(result)}", f"weights: {model}")


def progress_bar() -> Progress:
    """Steps, loss, rate and time left, on the first process."""
    return Progress(
        TextColumn("pretraining"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[rate]:.0f} programs/s"),
        TimeRemainingColumn(elapsed_when_finished=True),
        disable=not processes.is_first(),
    )


def require_finite(values: dict[str, float], config: PretrainConfig, step: int, saved: int) -> None:
    """Stop before anything that is not finite is saved.

    Raises:
      FloatingPointError: naming step, learning rates and the last good checkpoint.
    """
    if not all(math.isfinite(value) for value in values.values()):
        rates = {f"{n}_lr": float(rate(step - 1)) for n, rate in learning_rates(config).items()}
        raise FloatingPointError(
            f"loss {values['loss']}, grad_norm {values['grad_norm']} at step {step}"
            f" ({cli.short(rates)}); the last good checkpoint is step {saved}"
        )


def evaluates(config: PretrainConfig, step: int) -> bool:
    """Is there an evaluation after this step, before the final one."""
    return step > 0 and step % config.eval_every == 0 and step < config.steps


def export(
    folder: pathlib.Path,
    config: PretrainConfig,
    params: dict,
    step: int,
    mesh: jax.sharding.Mesh,
    stop: cli.StopSignals,
) -> dict:
    """Evaluate and write the weights, and in config.json how they were made; -> evaluation."""
    result = evaluate(params, config, config.final_eval_tasks, mesh=mesh)
    if stop.came():
        stop.leave(f"saved at step {step}, its evaluation not done")
    info = {
        "pretraining": to_json(config),
        "step": step,
        "init_sha256": load_pretrained(config.init).info["sha256"] if config.init else None,
        "programs_seen": step * config.batch_size,  # those of --init not counted
        "held_out": result,
        "versions": cli.versions(),
        "device": jax.devices()[0].device_kind,
    }
    params = jax.device_put(params, replicated(mesh))
    processes.on_first(lambda: save_weights(folder, config.model, params, info))
    return result


def main(_):
    """Pretrain as the flags say."""
    config = read_flags(PRESETS[PRESET.value], flags.FLAGS)
    cli.use_devices()
    workdir, mesh = pathlib.Path(WORKDIR.value), cli.mesh()
    if config.batch_size % mesh.shape["data"]:
        raise ValueError(
            f"batch_size {config.batch_size} is not a multiple of {mesh.shape['data']},"
            " the devices on data"
        )
    batch, draws = config.batch_size // mesh.shape["data"], config.tasks.max_draws
    check_pretraining(config.model, batch, config.microbatch or min(batch, 32), draws)
    state = init_state(config, mesh)  # before the folder is claimed: --init may be wrong
    cli.claim(workdir, to_json(config))
    if (workdir / "model" / "config.json").exists():
        cli.say(f"{workdir} holds this run already, done: nothing to do")
        return
    Run(config, state, workdir, mesh).finish()


if __name__ == "__main__":
    cli.run(main)
