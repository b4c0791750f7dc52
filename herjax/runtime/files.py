"""Files that a kill cannot damage."""

import pathlib


def write_atomically(path: pathlib.Path, data: bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old content or all of the new."""
    temporary = path.with_name(path.name + ".part")  # one name: the next run overwrites a rest
    temporary.write_bytes(data)
    temporary.replace(path)
