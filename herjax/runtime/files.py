"""Files that a kill cannot damage, and files of others that are read with bounds."""

import contextlib
import json
import os
import pathlib
import stat
import tempfile
from typing import Any

# Lists, objects and quotes of a JSON file: its values take at most some 100 MB.
MAX_JSON_PARTS = 500_000


class CheckpointError(Exception):
    """A checkpoint is missing, damaged, or of another run."""


def read_bounded(path: str | os.PathLike, most: int) -> bytes:
    """The bytes of a regular file; others could be read without end, or block for ever.

    Args:
      path: of the file.
      most: bytes that it may have.

    Raises:
      ValueError: if it is larger, or a device, a pipe or a socket.
      OSError: if it cannot be read.
    """
    name = os.fspath(path)
    # Opening a pipe waits for a writer, unless told not to.
    handle = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(f"{name} is a folder, not a file")
        raise ValueError(f"{name} is not a regular file")
    with open(handle, "rb") as file:
        data = file.read(most + 1) if status.st_size <= most else b""
    if status.st_size > most or len(data) > most:
        raise ValueError(f"{name} is larger than {_size(most)}")
    return data


def _size(count: int) -> str:
    return f"{count // 10**6:,} MB" if count >= 10**6 else f"{count // 1000:,} kB"


def parse_json(data: bytes, name: str) -> Any:
    """JSON that neither its depth nor its width lets take all memory.

    Raises:
      ValueError: with ``name``, if it is none, nested too deep, or of too many parts.
    """
    if sum(map(data.count, (b"[", b"{", b'"'))) > MAX_JSON_PARTS:
        raise ValueError(f"{name} has more than {MAX_JSON_PARTS:,} lists, objects and quotes")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError(f"{name} is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}") from None


def write_atomically(path: pathlib.Path, data: bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old content or all of the new."""
    temporary = path.with_name(path.name + ".part")  # one name: the next run overwrites a rest
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_in_a_crowd(path: pathlib.Path, data: bytes, prefix: str) -> None:
    """Likewise, whoever else writes the same file at the same time.

    A kill may leave a file behind, named ``prefix`` ... ``.part``.
    """
    handle, temporary = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
