"""One process at a time in a folder, whoever is killed, and on whatever file system.

The operating system's lock on a file ends with the process that holds it, however that ends. On
network file systems it may hold among the processes of one host alone, or not exist. So the holder
also writes into the file who it is, and gives a sign of life every BEAT seconds. A file that names
a process of another host is watched for PATIENCE seconds: no clocks are compared.
"""

import contextlib
import datetime
import errno
import json
import logging
import os
import pathlib
import secrets
import socket
import stat
import sys
import threading
import time

try:
    import fcntl
except ImportError:  # not on Windows: then signs of life are all there is (best take WSL2)
    fcntl = None  # type: ignore[assignment]

NAME = "run.lock"
BEAT = 5.0  # seconds
PATIENCE = 3 * BEAT
SETTLE = 1.0  # seconds after which whoever writes last has written, without a lock of the system
MOST_BYTES = 4096  # that are read of the file
# ENOTSUP is EOPNOTSUPP on Linux, and another on macOS.
UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}

log = logging.getLogger(__name__)


class LockedError(BlockingIOError):
    """Another process uses the folder."""


class Lock:
    """The lock on a folder; ``with lock:`` gives it back at the end."""

    def __init__(self, folder: str | os.PathLike):
        """Of a folder that is there; nothing is taken yet."""
        self.folder = pathlib.Path(folder)
        self.path = self.folder / NAME
        self.token = secrets.token_hex(8)
        self._since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        self._handle: int | None = None
        self._stop = threading.Event()
        self._turn = threading.Lock()  # of the thread that gives signs of life, and of ``release``
        self._lost: str | None = None

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, and keep it until ``release`` or the end of the process.

        Raises:
          LockedError: if another process has it, which the message names.
          OSError: if the file cannot be made.
        """
        while not self._try():
            pass
        threading.Thread(target=self._beat, name="lock", daemon=True).start()

    def release(self) -> None:
        """Give the lock back, and remove the file; without effect if it is not held."""
        self._stop.set()
        with self._turn:
            if self._handle is None:
                return
            with contextlib.suppress(OSError):
                if self._read()[0].get("token") == self.token:
                    self.path.unlink()
            os.close(self._handle)
            self._handle = None

    def check(self) -> None:
        """Go on only if the lock is still held; call it before something is written.

        Raises:
          LockedError: if another process has taken it, as when this one was suspended for long.
        """
        if self._lost is not None:
            raise LockedError(self._lost)

    def _try(self) -> bool:
        """Take it; False if the file was replaced meanwhile, so that it must be tried again."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        handle = os.open(self.path, flags | getattr(os, "O_NONBLOCK", 0), 0o644)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(f"{self.path} is no file: remove it")
            alone = self._lock(handle)
            owner, seen = self._read()
            if seen is None or seen[0] != os.fstat(handle).st_ino:
                return False  # its holder has just removed it
            if (seen[2] or owner) and not (alone and owner.get("host", _host()) == _host()):
                self._watch(owner, seen)
            self._write(handle, alone)
            self._handle, handle = handle, -1
            return True
        finally:
            if handle >= 0:
                os.close(handle)

    def _lock(self, handle: int) -> bool:
        """The lock of the operating system; False if there is none here."""
        if fcntl is None:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return False
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            for _ in range(10):  # whoever has just taken it soon writes who it is
                if owner := self._read()[0]:
                    break
                time.sleep(0.05)
            raise LockedError(self._told(owner)) from None
        return True

    def _read(self) -> tuple[dict, tuple[int, int, int] | None]:
        """Who the file names, {} if nobody; and inode, time and size, None without a file.

        It is opened anew, because a network file system looks at its server then.
        """
        try:
            handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError:
            return {}, None
        try:
            found = os.fstat(handle)
            owner = json.loads(os.read(handle, MOST_BYTES) or b"{}")
        except (ValueError, RecursionError):
            owner = {}
        finally:
            os.close(handle)
        seen = found.st_ino, found.st_mtime_ns, found.st_size
        return (owner if isinstance(owner, dict) else {}), seen

    def _watch(self, owner: dict, seen: tuple[int, int, int]) -> None:
        """Return once the holder has given no sign of life for PATIENCE seconds.

        Raises:
          LockedError: if it does.
        """
        log.warning("%s: is it still at work? looking for %g s", self._told(owner), PATIENCE)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            time.sleep(min(1.0, PATIENCE / 10))
            now, state = self._read()
            if state is not None and state != seen:
                raise LockedError(self._told(now or owner))

    def _write(self, handle: int, alone: bool) -> None:
        command = " ".join([pathlib.Path(sys.argv[0] or "python").name, *sys.argv[1:]])[:1000]
        about = {"host": _host(), "pid": os.getpid(), "since": self._since}
        data = json.dumps({**about, "command": command, "token": self.token}).encode() + b"\n"
        if alone:  # in place: another file would have another lock
            os.ftruncate(handle, 0)
            os.pwrite(handle, data, 0)
            return
        temporary = self.path.with_name(f"{NAME}-{self.token}")
        try:
            temporary.write_bytes(data)
            temporary.replace(self.path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        time.sleep(SETTLE)
        owner, _ = self._read()
        if owner.get("token") != self.token:
            raise LockedError(self._told(owner))

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with self._turn, contextlib.suppress(OSError):  # the server may be away for a while
                if self._stop.is_set():
                    return
                owner, seen = self._read()
                if seen is None:
                    old = self._handle
                    if self._try() and old is not None:  # somebody has removed the file
                        os.close(old)
                elif owner.get("token") == self.token:
                    os.utime(self.path)
                else:
                    self._lost = self._told(owner)

    def _told(self, owner: dict) -> str:
        who = "another process"
        if {"host", "pid", "since", "command"} <= set(owner):
            who = "process {pid} on {host}, since {since} ({command})".format(**owner)
        return f"{self.folder} is in use by {who}"


def _host() -> str:
    return socket.gethostname()
