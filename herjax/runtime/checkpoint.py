"""Resumable run state on disk, through Orbax, with checksums and fallback to an older step."""

import logging
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax import Array

from herjax.runtime.processes import anywhere, on_first

log = logging.getLogger(__name__)


class CheckpointError(Exception):
    """A checkpoint is missing, damaged, or of another run."""


class Checkpoints:
    """Numbered checkpoints of one run: a pytree of arrays and some JSON; the newest two are kept.

    With several processes all of them call every method together, on one shared folder.
    """

    def __init__(self, directory: str | pathlib.Path):
        """Open or create ``directory``."""
        self.directory = pathlib.Path(directory).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, step: int, state: Any, info: dict | None = None) -> None:
        """Write a step, atomically, unless it is there."""
        if step in self._manager.all_steps():
            return
        info = {"checksums": checksums(state), **(info or {})}
        args = {"state": ocp.args.StandardSave(state), "info": ocp.args.JsonSave(info)}
        self._manager.save(step, args=ocp.args.Composite(**args))
        self._manager.wait_until_finished()

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
        restored: tuple[Any, dict] | None
        error: Exception | None
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored, error = self._restore(step, like), None
            except Exception as caught:  # Orbax raises many kinds for damaged files
                restored, error = None, caught
            if anywhere(error is not None) or restored is None:
                reason = (str(error).splitlines() or [""])[0]
                damaged[step] = f"{type(error).__name__}: {reason}"
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
                    folder.rename(self.directory / f"damaged-{step}")

        if damaged:
            on_first(rename)
            self._manager.reload()


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
