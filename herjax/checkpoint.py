"""Resumable run state on disk, through Orbax."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp


class CheckpointError(Exception):
    """A checkpoint is missing, damaged, or of another run."""


class Checkpoints:
    """Numbered checkpoints of one run: a pytree of arrays beside a JSON configuration."""

    def __init__(self, directory: str | pathlib.Path, config: dict):
        """Open or create ``directory``.

        Raises:
          CheckpointError: if it holds a run with another configuration.
        """
        self.directory = pathlib.Path(directory).absolute()
        self.config = config
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.directory, options=options)
        step = self._manager.latest_step()
        if step is not None:
            saved = self._restore(step, config=ocp.args.JsonRestore())["config"]
            different = sorted(k for k in {*saved, *config} if saved.get(k) != config.get(k))
            if different:
                name = different[0]
                raise CheckpointError(
                    f"{self.directory} holds another run: {name} is {saved.get(name)!r} there, "
                    f"{config.get(name)!r} here; choose another --workdir"
                )

    def _restore(self, step: int, **items) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax raises many kinds for damaged files
            raise CheckpointError(
                f"damaged checkpoint: step {step} in {self.directory}: "
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            ) from error

    def restore_latest(self, like: Any) -> tuple[int, Any] | None:
        """Newest step and its state, of the structure and shardings of ``like``; None if none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return step, self._restore(step, state=ocp.args.StandardRestore(target))["state"]

    def save(self, step: int, state: Any) -> None:
        """Write a step, atomically; older ones than the last two are removed."""
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), config=ocp.args.JsonSave(self.config)
        )
        self._manager.save(step, args=items)
        self._manager.wait_until_finished()
