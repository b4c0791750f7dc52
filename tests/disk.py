"""A small disk, and how to fill it."""

import contextlib
import subprocess


@contextlib.contextmanager
def small_disk(path, megabytes):
    """A folder becomes a disk of this size for a while; False where none can be mounted."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    mounted = subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk):
    """Leave no byte on a disk; -> the file that takes them all."""
    path = disk / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    return path
