"""Files that a kill cannot damage."""

import os
import pathlib
import tempfile


def write_atomically(path: pathlib.Path, data: bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old content or all of the new."""
    temporary = path.with_name(path.name + ".part")  # one name: the next run overwrites a rest
    temporary.write_bytes(data)
    temporary.replace(path)


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
