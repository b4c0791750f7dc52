"""Resumable run state on disk, through Orbax, with checksums and fallback to an older step."""

import contextlib
import gc
import hashlib
import itertools
import json
import logging
import os
import pathlib
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax import Array

from herjax.runtime.files import CheckpointError
from herjax.runtime.processes import anywhere, on_first

T = TypeVar("T")
log = logging.getLogger(__name__)


class Checkpoints:
    """Numbered checkpoints of one run: a pytree of arrays and some JSON; the newest two are kept.

    With several processes all of them call every method together, on one shared folder.
    """

    def __init__(self, directory: str | pathlib.Path):
        """Open or create ``directory``."""
        self.directory = pathlib.Path(directory).absolute()
        on_first(self._remove_unfinished)
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, step: int, state: Any, info: dict | None = None) -> None:
        """Write a step, atomically, unless it is there.

        Args:
          step: its number.
          state: a pytree of arrays, each with a checksum.
          info: what JSON can hold, with a checksum over all of it.
        """
        if step in self._manager.all_steps():
            return
        saved = {"checksums": checksums(state), **json.loads(json.dumps(info or {}))}
        saved["sha256"] = _digest(step, saved)
        args = {"state": ocp.args.StandardSave(state), "info": ocp.args.JsonSave(saved)}
        self._manager.save(step, args=ocp.args.Composite(**args))
        self._manager.wait_until_finished()

    def try_save(self, step: int, state: Any, info: dict | None = None) -> bool:
        """``save``; if it fails, as on a full disk, one warning and False: the run can go on."""
        _, error = _attempt(lambda: self.save(step, state, info))
        if not anywhere(error is not None):
            return True
        reason = _reason(error) if error is not None else "another process failed"
        log.warning("checkpoint %d is not written to %s (%s)", step, self.directory, reason)
        on_first(self._remove_unfinished)
        self._manager.reload()
        return False

    def _remove_unfinished(self) -> None:
        """What a kill, or a save that failed, has left behind."""
        for folder in self.directory.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(folder, ignore_errors=True)

    def restore_latest(self, like: Callable[[dict], Any]) -> tuple[int, Any, dict] | None:
        """The newest step that is whole; damaged newer ones are set aside with a warning.

        Args:
          like: from the saved info to a tree of the state's structure, shapes and shardings.

        Returns:
          Step, state and info; None if there is no checkpoint.

        Raises:
          CheckpointError: if all are damaged.
        """
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            restored, error = _attempt(partial(self._restore, step, like))
            if anywhere(error is not None) or restored is None:
                told = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
                damaged[step] = told if error is not None else "another process cannot read it"
                continue
            self._set_aside(damaged, step)
            return step, *restored
        if damaged:
            step = max(damaged)
            raise CheckpointError(
                f"damaged checkpoint: step {step} in {self.directory}, and no older one is whole:"
                f" {damaged[step]}"
            )
        return None

    def _restore(self, step: int, like: Callable[[dict], Any]) -> tuple[Any, dict]:
        json_only = ocp.args.Composite(info=ocp.args.JsonRestore())
        info = self._manager.restore(step, args=json_only)["info"]
        if info.pop("sha256") != _digest(step, info):
            raise ValueError("the checksum does not fit the JSON")
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like(info))
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        state = self._manager.restore(step, args=args)["state"]
        if checksums(state) != info.pop("checksums"):
            raise ValueError("the checksums do not fit the arrays")
        return state, info

    def _set_aside(self, damaged: dict[int, str], good: int) -> None:
        def rename() -> None:
            for step, reason in damaged.items():
                log.warning(
                    "checkpoint %d in %s is damaged (%s): going on from %d",
                    *(step, self.directory, reason, good),
                )
                folder = self.directory / str(step)
                if folder.exists():
                    folder.rename(self._free(f"damaged-{step}"))

        if damaged:
            on_first(rename)
            self._manager.reload()

    def _free(self, name: str) -> pathlib.Path:
        """A path below the directory that nothing has yet: the name, or with a number."""
        names = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
        return next(path for each in names if not (path := self.directory / each).exists())


def _attempt(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What some work of Orbax returns, or what it raises, without traceback; it prints nothing."""
    with _quiet_orbax():
        try:
            return work(), None
        except Exception as caught:  # Orbax and TensorStore raise many kinds
            error = caught
        found: BaseException | None = error
        while found is not None:
            found.__traceback__ = None  # its frames hold what was left undone
            found = found.__cause__ or found.__context__
        for _ in range(2):
            gc.collect()  # that says so now, or soon
            time.sleep(0.1)
        return None, error


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Without what Orbax logs and TensorStore prints of a failure that is raised, too."""
    loggers = [logging.getLogger(name) for name in ("absl", "orbax", "asyncio")]
    levels = [logger.level for logger in loggers]
    hook = sys.unraisablehook
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """What went wrong, in a line: if it knows, as the operating system calls it."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        if told := re.search(r"\[os_error_code='(\d+)'\]", str(found)):
            return os.strerror(int(told.group(1)))
        found = found.__cause__ or found.__context__
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


def _digest(step: int, info: dict) -> str:
    """Over the JSON beside the arrays, and the step that it belongs to."""
    text = json.dumps([step, info], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def checksums(state: Any) -> list[int]:
    """One checksum for each array of a tree, the same for every way to shard it.

    Every element's bits times an odd number of its own, summed modulo 2^32: any change of one
    element changes it.
    """
    return [int(value) for value in jax.device_get(_checksums(jax.tree.leaves(state)))]


@jax.jit
def _checksums(leaves: list[Array]) -> list[Array]:
    return [_checksum(leaf) for leaf in leaves]


def _checksum(leaf: Array) -> Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        leaf = jax.lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}")
    bits = leaf.astype(jnp.uint32).reshape(-1)
    odd = jnp.arange(len(bits), dtype=jnp.uint32) * jnp.uint32(0x9E3779B9) * 2 + 1
    return jnp.sum(bits * (odd ^ (odd >> 15 << 1)), dtype=jnp.uint32)
