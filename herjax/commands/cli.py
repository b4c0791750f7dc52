"""What the command lines share: one-line errors, stop signals, versions."""

import atexit
import importlib.metadata
import json
import logging
import math
import pathlib
import platform
import re
import signal
import sys
import time
from typing import Any

import jax
from absl import app, flags
from absl import logging as absl_logging

from herjax.commands.door import fail, parse
from herjax.commands.flags import OWN, is_of_own
from herjax.runtime import processes, program_cache, records, xla_flags
from herjax.runtime.files import CheckpointError, write_atomically
from herjax.runtime.jax_settings import as_written
from herjax.runtime.lock import NAME, Lock
from herjax.runtime.processes import ProcessError
from herjax.runtime.sharding import make_mesh, parse_mesh

_config: Any = jax.config  # has an attribute for every setting; its type knows few of them
MAX_SEED = 2**31 - 2
LITTER = r"\.DS_Store|\._.*|\.ipynb_checkpoints|Thumbs\.db|desktop\.ini"  # of who looks at a folder
MAX_DEVICES = 256  # that a process makes of a CPU
COMPILATION_CACHE: flags.FlagHolder[str | None] = flags.DEFINE_flag(
    flags.Flag(
        flags.ArgumentParser(),
        None,
        "compilation_cache",
        None,
        "--compilation_cache=DIR keeps compiled programs in DIR, --nocompilation_cache none."
        " Without either: in $JAX_COMPILATION_CACHE_DIR, else $XDG_CACHE_HOME/herjax, else"
        " ~/.cache/herjax. They are native code: none but you may be able to write there.",
        boolean=True,  # so that it has the form with "no"
    )
)
MESH = flags.DEFINE_string(
    "mesh",
    None,
    "Devices: data:N or data:N,model:M; CPUs: as many are made. Default: all; on CPUs what suits.",
)
DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "This is one of several processes, which SLURM, MPI, Kubernetes or a TPU tell of; else all of"
    " --coordinator, --num_processes and --process_id do.",
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "With --distributed: address HOST:PORT of process 0."
)
NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "With --distributed: how many processes there are.", lower_bound=1
)
PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "With --distributed: which process this is, from 0.", lower_bound=0
)


class StopSignals:
    """Catches Ctrl-C, SIGTERM and SIGHUP, so that the caller can save first.

    A second Ctrl-C stops at once; what it cuts off is cleared away when the run continues.
    """

    def __init__(self):
        self.received = 0  # the signal's number
        self._before = {}

    def _handle(self, number, _):
        self.received = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __enter__(self):
        wanted = [signal.SIGINT, signal.SIGTERM]
        hangup = getattr(signal, "SIGHUP", None)
        if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:  # as nohup asks
            wanted.append(hangup)
        self._before = {number: signal.signal(number, self._handle) for number in wanted}
        return self

    def __exit__(self, kind, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.received = signal.SIGINT
            self.leave("at once, not saved")

    def came(self) -> bool:
        """Did one come, to any process. All processes must ask together."""
        if processes.anywhere(self.received != 0):
            self.received = self.received or signal.SIGTERM
        return self.received != 0

    def leave(self, message: str) -> None:
        """Say what became of the work, and exit as a stopped process does."""
        say(f"stopped: {message}; the same command continues")
        sys.exit(128 + self.received)


def say(*lines: object) -> None:
    """Print on the first process."""
    if processes.is_first():
        print(*lines, sep="\n", flush=True)


def claim(workdir: pathlib.Path, run: dict) -> Lock:
    """Make a folder this run's own, or find that it is; ``run`` is JSON that tells it from others.

    Returns:
      The lock on it, which this process holds until it gives it back or ends.

    Raises:
      CheckpointError: if it holds another run, or anything else.
      LockedError: if another process uses it.
    """
    lock = Lock(workdir)
    processes.on_first(lambda: _claim(workdir, run, lock))
    return lock


def _claim(workdir: pathlib.Path, run: dict, lock: Lock) -> None:
    is_claimed(workdir, run)  # what is not ours is not even locked
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8" and not str(workdir.absolute()).isascii():
        raise CheckpointError(
            f"{ascii(str(workdir))}: checkpoints are written into folders named in UTF-8, and names"
            f" are {encoding} here: choose another --workdir, or set PYTHONUTF8=1"
        )
    workdir.mkdir(parents=True, exist_ok=True)
    lock.acquire()
    try:
        if not is_claimed(workdir, run):
            write_atomically(workdir / "run.json", json.dumps(run, indent=2).encode() + b"\n")
    except BaseException:
        lock.release()
        raise
    atexit.register(lock.release)


def is_claimed(workdir: pathlib.Path, run: dict) -> bool:
    """Whether a folder is this run's own; False if nothing has been done in it, or it is not there.

    Raises:
      CheckpointError: if it holds another run, or anything else.
    """
    path = workdir / "run.json"
    # What a run leaves that was killed as it began, or met a full disk.
    left = re.compile(rf"{re.escape(NAME)}(-\w+)?|{re.escape(path.name)}\.part|{LITTER}")
    if path.exists():
        other = records.read_object(path)
        if other != run:
            files = [found for found in workdir.rglob("*") if found.is_file() and found != path]
            idle = all(left.fullmatch(file.name) for file in files)
            if idle and run == {**other, OWN: run.get(OWN)}:
                return False  # the same command: it failed, and its author has mended the module
            mine, theirs = _flat(run), _flat(other)
            names = dict.fromkeys([*mine, *theirs])
            different = ", ".join(n for n in names if mine.get(n) != theirs.get(n))
            raise CheckpointError(
                f"{workdir} holds another run (different {different}); choose another --workdir"
            )
        return True
    if workdir.exists() and not all(left.fullmatch(found.name) for found in workdir.iterdir()):
        raise CheckpointError(f"{workdir} is not empty and holds no run; choose another --workdir")
    return False


def _flat(values: object, prefix: str = "") -> dict:
    """The values of nested dicts by their dotted names."""
    if not isinstance(values, dict):
        return {prefix: values} if prefix else {}
    parts = (_flat(value, f"{prefix}.{name}".strip(".")) for name, value in values.items())
    return {name: value for part in parts for name, value in part.items()}


def use_devices(cpu_devices: int = 1) -> None:
    """Before the first use of JAX: make the CPU devices that --mesh asks for, join the processes.

    Args:
      cpu_devices: how many to make without --mesh. Without effect on other platforms.

    Raises:
      ValueError: if the flags do not fit together.
    """
    if MESH.value is not None:
        size = math.prod(parse_mesh(MESH.value).values())
        cpu_devices = -(-size // (NUM_PROCESSES.value or 1))  # of this process
        if cpu_devices > MAX_DEVICES:
            raise ValueError(
                f"--mesh={MESH.value} needs {cpu_devices} devices of this process: at most"
                f" {MAX_DEVICES}"
            )
    if cpu_devices > 1:
        xla_flags.wait_for_late_devices()
    jax.config.update("jax_num_cpu_devices", cpu_devices)
    named = [f.value is not None for f in (COORDINATOR, NUM_PROCESSES, PROCESS_ID)]
    if any(named) and not (DISTRIBUTED.value and all(named)):
        raise ValueError(
            "--coordinator, --num_processes and --process_id go together, and with --distributed"
        )
    if DISTRIBUTED.value:
        try:
            jax.distributed.initialize(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"--distributed: {error}") from None


def mesh(members: int | None = None) -> jax.sharding.Mesh:
    """The mesh of --mesh; without it all devices, but no more than there are members.

    Raises:
      ValueError: if there are fewer devices than it needs.
    """
    if MESH.value is not None:
        return make_mesh(parse_mesh(MESH.value))
    return make_mesh({"data": min(len(jax.devices()), members or sys.maxsize), "model": 1})


def keep_programs() -> None:
    """As --compilation_cache says; a default folder that will not do is done without.

    Raises:
      ValueError, OSError: if the folder that was asked for will not do.
    """
    asked = COMPILATION_CACHE.value  # "true" and "false" are the forms without a folder
    if asked in ("false", ""):
        jax.config.update("jax_compilation_cache_dir", None)
    elif asked not in (None, "true"):
        program_cache.keep_in(asked)
        if DISTRIBUTED.value:  # several processes have JAX's own cache
            jax.config.update("jax_compilation_cache_dir", asked)
    elif not (_config.jax_compilation_cache_dir or DISTRIBUTED.value):
        try:
            program_cache.keep_programs()
        except (ValueError, OSError, RuntimeError) as error:
            print(f"warning: compiled programs are not kept: {error}", file=sys.stderr)


class Stopwatch:
    """Wall time and, apart, how much of it JAX spent compiling. Seconds."""

    def __init__(self):
        self.compiling = 0.0
        self.start = time.monotonic()
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            self.compiling += duration_secs

    def lap(self) -> tuple[float, float]:
        """Seconds not compiling and compiling since the last lap."""
        now, compiling = time.monotonic(), self.compiling
        whole, self.start, self.compiling = now - self.start, now, 0.0
        return max(whole - compiling, 0.0), compiling


def called() -> str | None:
    """The console script that this process is, such as herjax-adapt; None for a module."""
    name = pathlib.Path("".join(sys.orig_argv[1:2])).name
    return name if name.startswith("herjax-") else None


def name_as_called() -> None:
    """Let the help of this command name it as it was called."""
    if name := called():
        main, module = sys.modules["__main__"], pathlib.Path(sys.argv[0]).stem
        main.__doc__ = (main.__doc__ or "").replace(f"python -m experiments.{module}", name)


def run(main, positional: bool = False) -> None:
    """``app.run`` with bad input as one line; only ``positional`` takes arguments without names."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger("orbax").setLevel(logging.ERROR)
    name_as_called()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # it may lack letters of a name

    def guarded(arguments):
        if len(arguments) > 1 and not positional:
            fail(f"unexpected argument {arguments[1]!r}")
        try:
            # Until here Ctrl-C ends the process; from now on there may be locks to give back.
            if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            keep_programs()
            with as_written():
                return main(arguments)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
        except (MemoryError, RecursionError, jax.errors.JaxRuntimeError) as error:
            if is_of_own(error):
                raise  # its author wants to see where
            fail(f"{type(error).__name__}: {error}".splitlines()[0])
        except (CheckpointError, ProcessError, ValueError, OSError, FloatingPointError) as error:
            if is_of_own(error):
                raise
            fail((str(error) or repr(error)).splitlines()[0])

    app.run(guarded, flags_parser=parse)


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    names = ("herjax", "jax", "jaxlib", "flax", "optax", "numpy")
    found = {
        name: importlib.metadata.version(name) for name in names if name != "herjax" or _installed()
    }
    return {"python": platform.python_version(), **found}


def _installed() -> bool:
    try:
        importlib.metadata.version("herjax")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def short(values: dict) -> str:
    """Numbers for a terminal line."""
    return "  ".join(
        f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()
    )


def rounded(value: float, digits: int) -> str:
    """A number for a table, to so many digits, without an exponent: "1,400,000"."""
    return f"{float(f'{value:.{digits}g}'):,.15g}"
