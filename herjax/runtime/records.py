"""JSON and JSON-lines files of a run: read without believing them, appended to on full disks, too.

A file that is damaged gives one line that names it and says how.
"""

import contextlib
import json
import logging
import os
import pathlib
import stat
from typing import Any

from herjax.runtime.files import CheckpointError, write_atomically

MOST_BYTES = 2**28  # of a file that a run reads; none that it writes comes near

log = logging.getLogger(__name__)


def read_text(path: pathlib.Path) -> str:
    """The text of a file of ours.

    Raises:
      CheckpointError: if it is none that a run can have written: no file, too large, not UTF-8.
      OSError: if it cannot be read.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"damaged {path}: not a file")
    if found.st_size > MOST_BYTES:
        raise CheckpointError(f"damaged {path}: {found.st_size:,} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CheckpointError(f"damaged {path}: not text") from None


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
      CheckpointError: if it does not.
      OSError: if it cannot be read.
    """
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError):
        raise CheckpointError(f"damaged {path}: not JSON") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"damaged {path}: no JSON object")
    return value


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The objects in a JSON-lines file; none without a file.

    A last line that was cut off, by a kill or a full disk, is left out.

    Raises:
      CheckpointError: if another line is none.
      OSError: if it cannot be read.
    """
    lines = read_text(path).split("\n") if path.exists() else [""]
    values = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise CheckpointError(f"damaged {path}: line {number} is no JSON object")
        values.append(value)
    return values


def write_lines(path: pathlib.Path, values: list[dict[str, Any]]) -> None:
    """Replace a JSON-lines file, atomically."""
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in values).encode())


def append(path: pathlib.Path, *values: dict[str, Any]) -> None:
    """Append a line for each to a JSON-lines file: all of them, or on a full disk none.

    A last line that was cut off is removed first, as ``read_lines`` leaves it out.

    Raises:
      OSError: if they cannot be written.
    """
    data = "".join(json.dumps(value) + "\n" for value in values).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        write_whole(file, data, _whole_lines(file))


def write_whole(file: Any, data: bytes, size: int) -> None:
    """Write bytes at the end of an unbuffered file of ``size`` bytes: all, or on a full disk none.

    Raises:
      OSError: if they cannot be written.
    """
    try:
        while data:
            data = data[file.write(data) :]
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(size)
        raise


def _whole_lines(file: Any) -> int:
    """Cut off what comes after the last line end; -> bytes that are left."""
    size = file.seek(0, os.SEEK_END)
    end = size
    while end > 0:
        begin = max(end - 4096, 0)
        file.seek(begin)
        newline = file.read(end - begin).rfind(b"\n")
        if newline >= 0:
            end = begin + newline + 1
            break
        end = begin
    if end < size:
        file.truncate(end)
    return end


class Appender:
    """Appends to a JSON-lines file; what a full disk refuses is written with the next lines."""

    def __init__(self, path: pathlib.Path):
        """Of a file that there is, or will be."""
        self.path = path
        self.pending: list[dict[str, Any]] = []

    def append(self, *values: dict[str, Any]) -> bool:
        """Append a line for each; False, after a warning, if they have to wait."""
        waited = bool(self.pending)
        self.pending += values
        try:
            self.flush()
        except OSError as error:
            if not waited:
                log.warning("lines for %s wait (%s)", self.path, error.strerror or error)
            return False
        return True

    def flush(self) -> None:
        """Append what waits.

        Raises:
          OSError: if it has to wait on.
        """
        if self.pending:
            append(self.path, *self.pending)
            self.pending = []
