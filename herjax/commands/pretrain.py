"""Pretrain a decoder on random drawings: python -m experiments.pretrain --workdir=DIR

Killed or stopped, the same command continues where it was.
"""

import contextlib
import logging
import math
import pathlib
import signal
import time
from collections.abc import Callable

import jax
import numpy as np
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

from herjax.commands import cli, events
from herjax.commands.flags import define_flags, own_code, read_flags, to_json
from herjax.commands.results import digest, logged, set_aside
from herjax.commands.terminal import Terminal
from herjax.decoder.model import Decoder
from herjax.decoder.weights import Pretrained, load_pretrained, save_weights
from herjax.learning.presets import PRESETS, PretrainConfig
from herjax.learning.pretraining import (
    bucket_of_step,
    check_pretrain,
    compile_ahead,
    cpu_devices_of,
    evaluate,
    init_state,
    learning_rates,
    pretrain_step,
)
from herjax.learning.train import TrainState
from herjax.runtime import processes, records
from herjax.runtime.checkpoint import Checkpoints
from herjax.runtime.files import CheckpointError
from herjax.runtime.lock import Lock
from herjax.runtime.machine import processors
from herjax.runtime.sharding import platform_of, replicated

log = logging.getLogger(__name__)
PRESET = flags.DEFINE_enum("preset", "base-10", sorted(PRESETS), "Configuration to start from.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
define_flags(PretrainConfig())
flags.adopt_module_key_flags(cli)  # into --help
flags.adopt_module_key_flags(events)


class Run:
    """A pretraining in its folder: where it stands, and what of it is on disk."""

    def __init__(
        self,
        config: PretrainConfig,
        state: TrainState,
        workdir: pathlib.Path,
        mesh: jax.sharding.Mesh,
        lock: Lock,
    ):
        """From the newest checkpoint, or from ``state`` if there is none."""
        self.config, self.state, self.workdir, self.mesh = config, state, workdir, mesh
        self.checkpoints, self.lock = Checkpoints(workdir / "checkpoints"), lock
        self.step = 0
        info: dict = {}
        if (restored := self.checkpoints.restore_latest(lambda _: state)) is not None:
            self.step, self.state, info = restored
            cli.say(f"resuming at step {self.step} of {config.steps}")
        self.saved, self.failed = self.step, False
        self.terminal = Terminal(quiet=not processes.is_first())
        # What writes those that are not written yet, by their folders.
        self.snapshots: dict[pathlib.Path, Callable[[], None]] = {}
        path = workdir / "metrics.jsonl"
        self.lines = logged(path, info.get("metrics"), self.step)
        processes.on_first(lambda: records.write_lines(path, self.lines))
        self.log_file = records.Appender(path)
        self.events = events.EventFile(workdir, "step") if events.TENSORBOARD.value else None
        if self.events is not None:
            wanted = self.events
            processes.on_first(lambda: wanted.rewrite(self.lines))
        self.evaluated = {line["step"] for line in self.lines if "pass@1" in line}
        self.clock = time.monotonic(), self.step  # since when, and which step, the rate is measured

    def log(self, line: dict) -> None:
        """Append a line to metrics.jsonl; on a full disk it waits for the next one."""
        self.lines.append(line)
        if processes.is_first():
            self.log_file.append(line)
            if self.events is not None:
                self.events.append([line])

    def flush(self) -> None:
        """Write the lines that wait for a full disk.

        Raises:
          OSError: if they have to wait on.
        """
        self.log_file.flush()
        if self.events is not None:
            self.events.flush()

    def save(self) -> bool:
        """Write a checkpoint of this step; False, after a warning, if that fails."""
        written = self.write_snapshots()  # a run that continues from here makes them no more
        info = {"metrics": {"lines": len(self.lines), "sha256": digest(self.lines)}}
        saved = self.checkpoints.try_save(self.step, self.state, info)
        if saved:
            self.saved = self.step
        self.failed = not (saved and written)
        return saved

    def write_snapshots(self) -> bool:
        """Write those that wait; False, after a warning, if one has to wait on."""
        for folder, write in list(self.snapshots.items()):
            reason = ""
            if processes.is_first():
                try:
                    write()
                except OSError as error:
                    reason = error.strerror or str(error)
            if processes.anywhere(bool(reason)):
                log.warning("%s is not written (%s): trying again", folder, reason)
                self.failed = True
                return False
            del self.snapshots[folder]
        return True

    def keep_up(self, stop: cli.StopSignals, console: Console) -> None:
        """Whatever is due at this step: an evaluation, a checkpoint, a snapshot."""
        config, step = self.config, self.step
        if evaluates(config, step) and step not in self.evaluated:
            now = Pretrained(Decoder(config.model), self.state.params, {})
            result = evaluate(now, config, config.eval_tasks, mesh=self.mesh)
            self.log({"step": step, **result})
            console.print(f"step {step}: {cli.short(result)}")
            self.clock = time.monotonic(), step
        if step > self.saved and self.is_due():
            self.save()
        snapshot = self.workdir / f"snapshot-{step}"
        if step in config.snapshots and not (snapshot / "config.json").exists():
            _, write = export(snapshot, config, self.state.params, step, self.mesh, stop)
            self.snapshots[snapshot] = write
            self.write_snapshots()

    def is_due(self) -> bool:
        """Is this step one to be saved?"""
        config, step = self.config, self.step
        due = step % config.checkpoint_every == 0 or evaluates(config, step)
        due = due or (self.failed and step % config.log_every == 0)
        return due or step in (config.steps, *config.snapshots)

    def advance(self, stop: cli.StopSignals, progress: Progress, bar: TaskID) -> None:
        """One step, its metrics, and a look at whether to stop."""
        config = self.config
        self.lock.check()
        bucket = bucket_of_step(config, self.step)
        self.state, metrics = pretrain_step(self.state, config, bucket, self.mesh)
        self.step += 1
        logs = self.step % config.log_every == 0 or self.step == config.steps
        # Several processes agree on it now and then, one looks after every step.
        if self.terminal.closed:
            stop.received = stop.received or signal.SIGPIPE
        stops = (logs or jax.process_count() == 1) and stop.came()
        if logs or stops or self.is_due():
            values = {name: float(value) for name, value in metrics.items()}
            require_finite(values, config, self.step, self.saved)
        if logs:
            since, since_step = self.clock
            self.clock = time.monotonic(), self.step
            programs = (self.step - since_step) * config.batch_size
            rate = round(programs / (self.clock[0] - since), 1)
            self.log({"step": self.step, **values, "programs_per_second": rate})
            now = f"loss {values['loss']:.3f}  {rate:.0f} programs/s"
            progress.update(bar, completed=self.step, now=now)
        if stops:
            saved = self.step == self.saved or self.save()
            stop.leave(f"{'' if saved else 'not '}saved at step {self.step}")

    def finish(self) -> None:
        """Train to the end, evaluate, and export the weights to ``workdir/model``."""
        config = self.config
        size = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        cli.say(f"{size:,} parameters, {config.steps:,} steps of {config.batch_size} programs")
        float32 = config.model.dtype == "float32"
        if self.step == 0 and float32 and platform_of(self.mesh) == "cpu" and has_amx():
            cli.say("this processor would train faster, and as well, with --model.dtype=bfloat16")
        with cli.StopSignals() as stop, progress_bar(self.terminal) as progress:
            bar = progress.add_task("", total=config.steps, completed=self.step, now="compiling")
            if platform_of(self.mesh) != "cpu" and jax.process_count() == 1:
                compile_ahead(self.state, config, self.mesh)
            self.clock = time.monotonic(), self.step
            while True:
                self.keep_up(stop, progress.console)
                if self.step == config.steps:
                    break
                self.advance(stop, progress, bar)
            model, params = self.workdir / "model", self.state.params
            result, write = export(model, config, params, self.step, self.mesh, stop)
            self.log({"step": self.step, **result})
            for each in (self.flush, *self.snapshots.values(), write):  # with the last it is done
                processes.on_first(each)
        cli.say(f"held-out: {cli.short(result)}", f"weights: {model}")


def has_amx() -> bool:
    """Has this processor matrix units for bfloat16? As far as Linux tells."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        return "amx_bf16" in file.read().split()
    return False


def is_done(model: pathlib.Path) -> bool:
    """Are the weights there, and whole? Damaged ones are set aside with a warning."""
    names = [name for name in ("config.json", "model.safetensors") if (model / name).exists()]
    if "config.json" not in names:
        return False
    reason = ""
    try:
        load_pretrained(str(model))
    except (CheckpointError, ValueError, OSError) as error:
        reason = str(error)
    if not processes.anywhere(bool(reason)):
        return True
    log.warning("%s is made again: %s", model, reason)
    processes.on_first(lambda: set_aside(model, names))
    return False


def progress_bar(console: Terminal) -> Progress:
    """Steps, loss, rate and time left, on the first process."""
    return Progress(
        TextColumn("pretraining"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[now]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
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
) -> tuple[dict, Callable[[], None]]:
    """Evaluate; -> evaluation, and what writes the weights, and in config.json how they were made.

    To be called on the first process, then or later.
    """
    ended = Pretrained(Decoder(config.model), params, {})
    result = evaluate(ended, config, config.final_eval_tasks, mesh=mesh)
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
    # On the host: the next step takes the arrays of this one over.
    params = jax.tree.map(np.array, jax.device_put(params, replicated(mesh)))
    return result, lambda: save_weights(folder, Pretrained(Decoder(config.model), params, info))


def main(_):
    """Pretrain as the flags say."""
    config = read_flags(PRESETS[PRESET.value], flags.FLAGS, own=False)
    events.require_tensorboard()
    here = 1 if cli.DISTRIBUTED.value else processors()
    cli.use_devices(cpu_devices=cpu_devices_of(config, here))
    config = read_flags(config, flags.FLAGS)  # now the user's modules may compute
    workdir, mesh = pathlib.Path(WORKDIR.value), cli.mesh()
    check_pretrain(config, mesh)
    state = init_state(config, mesh)  # before the folder is claimed: --init may be wrong
    with cli.claim(workdir, to_json(config) | own_code()) as lock:
        if is_done(workdir / "model"):
            cli.say(f"{workdir} holds this run already, done: nothing to do")
            return
        Run(config, state, workdir, mesh, lock).finish()


if __name__ == "__main__":
    cli.run(main)
