"""What several processes (hosts) must agree on. With one process everything here is immediate."""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils


class ProcessError(Exception):
    """Another process of this run failed; it said why."""


def is_first() -> bool:
    """Is this the process that writes logs, results and figures?"""
    return jax.process_index() == 0


def anywhere(flag: bool) -> bool:
    """Whether ``flag`` is true in any process. All processes must call this together."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def on_first(work: Callable[[], None]) -> None:
    """Do ``work`` on the first process, while the others wait.

    Raises:
      ProcessError: in the others, if it raised.
    """
    error = None
    if is_first():
        try:
            work()
        except Exception as caught:  # the others wait: whatever it is, tell them first
            error = caught
    failed = anywhere(error is not None)
    if error is not None:
        raise error
    if failed:
        raise ProcessError("the first process failed, see its message")
