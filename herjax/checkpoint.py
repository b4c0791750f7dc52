"""Resumable run state on disk, through Orbax."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp


class CheckpointError(Exception):
    """A checkpoint is missing, damaged, or of another run."""


class Checkpoints:
    """Numbered checkpoints of one run, each a pytree of arrays; the newest two are kept."""

    def __init__(self, directory: str | pathlib.Path):
        """Open or create ``directory``."""
        self.directory = pathlib.Path(directory).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def restore_latest(self, like: Any) -> tuple[int, Any] | None:
        """Newest step and its state, of the structure and shardings of ``like``; None if none.

        Raises:
          CheckpointError: if it is damaged, with step and folder.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return step, self._manager.restore(step, args=ocp.args.StandardRestore(target))
        except Exception as error:  # Orbax raises many kinds for damaged files
            reason = (str(error).splitlines() or [""])[0]
            raise CheckpointError(
                f"damaged checkpoint: step {step} in {self.directory}:"
                f" {type(error).__name__}: {reason}"
            ) from error

    def save(self, step: int, state: Any) -> None:
        """Write a step, atomically, unless it is there."""
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(state))
            self._manager.wait_until_finished()
