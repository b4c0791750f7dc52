"""The attacks that herjax must stand, as data: a module an area, each with its ``CASES``."""

import contextlib
import pathlib
import socket
import tempfile
from collections.abc import Callable
from typing import NamedTuple


class Case(NamedTuple):
    """One attack, and in ``check`` what must come of it: it raises AssertionError otherwise."""

    name: str
    area: str
    check: Callable[[], None]
    slow: bool = False


@contextlib.contextmanager
def folder():
    """An empty folder that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="herjax-battery-") as name:
        yield pathlib.Path(name).resolve()


def make_socket(path):
    """A file that is a socket, at which nobody listens."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
