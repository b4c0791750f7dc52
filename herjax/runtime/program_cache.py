"""Keep compiled programs between runs: a warm start neither traces, nor lowers, nor compiles.

With functions of a user's own it traces and lowers, and does not compile.

A file a program holds what JAX makes of its executable, after a checksum. It is native code, and
unpickled: whoever may write into the folder can run what they like as the user who reads it, so a
folder that others may write into is refused.

JAX's own persistent cache is another thing: it knows a program only once it is traced and lowered,
writes files that a kill can cut off, and on some CPUs rejects all that it loads (jax#38445).
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import logging
import os
import pathlib
import pickle
import platform
import stat
import sys
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import jax
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from herjax.runtime.files import write_in_a_crowd
from herjax.runtime.jax_settings import on_its_own
from herjax.runtime.xla_flags import SECONDS, compiler_options, given_flags

MAX_BYTES = 2**30  # of a folder; beyond it, what was used longest ago goes
MAX_FILE = 2**28  # of a program; those of herjax take a hundredth
MAX_AGE = 90 * 86400  # seconds since the last use

log = logging.getLogger(__name__)
_config: Any = jax.config  # has an attribute for every setting; its type knows few of them
_folder: pathlib.Path | None = None
_calls: dict[tuple, Callable] = {}  # of this process
_making: dict[tuple, threading.Lock] = {}  # of several threads that want a program, one makes it
_turn = threading.Lock()  # for the two below
_compiling = 0  # threads that compile without JAX's persistent cache
_cache_of_jax = True  # was it in use before them


def default_folder() -> pathlib.Path:
    """Where the commands keep programs: of this user.

    Raises:
      RuntimeError: if the user has no home.
    """
    caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():  # the XDG specification: to be ignored
        caches = pathlib.Path("~/.cache").expanduser()
    return caches / "herjax"


def keep_programs(folder: str | os.PathLike | None = None) -> None:
    """Keep what is compiled for the processes after this one, as the commands do.

    Args:
      folder: for you alone, since what it holds is run; ``~/.cache/herjax`` if None.

    Raises:
      ValueError, OSError, RuntimeError: if others may write into it, it cannot be made, or there is
        no home to make it in.
    """
    keep_in(default_folder() if folder is None else folder)


def keep_in(folder: str | os.PathLike | None) -> None:
    """As ``keep_programs``, but None is none.

    Then they are kept in that of JAX's persistent cache, if there is one.
    """
    global _folder
    _folder = None if folder is None else _private(folder)


def _private(name: str | os.PathLike) -> pathlib.Path:
    """The folder, made if need be, with those above it; see ``keep_in``."""
    path = pathlib.Path(name).absolute()
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    if not path.is_dir() or not os.access(path, os.W_OK):
        raise OSError(f"no folder to write programs into: {path}")
    if hasattr(os, "getuid"):
        found = path.stat()
        if found.st_uid not in (os.getuid(), 0):
            raise ValueError(f"{path} belongs to another user, who could put programs into it")
        if found.st_mode & 0o022:
            raise ValueError(f"others may write programs into {path}: give a folder of your own")
    return path


def call_kept(
    function: jax.stages.Wrapped, *arrays: Any, runs_for: str = SECONDS, **static: Any
) -> Any:
    """``function(*arrays, **static)``, compiled once for all runs.

    With several processes, or without a folder, once for this one.

    Args:
      function: jitted, of a module; it donates what it is declared to donate.
      arrays: trees of arrays.
      runs_for: how long, of RUNS_FOR: what runs for seconds on CPUs is to begin soon.
      static: its static arguments: functions, dataclasses, tuples, and what shows in its ``repr``.
        With a function that is not one of herjax's, which may be another tomorrow, the call is
        traced and lowered in every process, and what is kept is found by what it then computes.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arrays)):
        return function(*arrays, **static)
    with on_its_own():
        if _config.jax_disable_jit:  # to look into a learner, say
            return function(*arrays, **static)
        return _compiled(function, arrays, runs_for, static)(*arrays)


def compile_kept(
    function: jax.stages.Wrapped, *arrays: Any, runs_for: str = SECONDS, **static: Any
) -> None:
    """Have the program ready that ``call_kept`` will run; several threads may ask at once."""
    with on_its_own():
        _compiled(function, arrays, runs_for, static)


def _compiled(
    function: jax.stages.Wrapped, arrays: tuple, runs_for: str, static: dict[str, Any]
) -> Callable:
    leaves, tree = jax.tree.flatten((arrays, {}))
    given = tuple(sorted(static.items()))  # by their names
    shown = tuple(map(_shown, leaves))
    key = (function, tree, shown, given, runs_for, _folder_now(), _settings())
    if key not in _calls:
        with _making.setdefault(key, threading.Lock()):
            if key not in _calls:
                _calls[key] = _program(*key, lambda: function.lower(*arrays, **static))
    return _calls[key]


def _program(
    function: Callable,
    tree: Any,
    shown: tuple,
    static: tuple,
    runs_for: str,
    folder: pathlib.Path | None,
    settings: tuple,
    lower: Callable[[], jax.stages.Lowered],
) -> Callable:
    """The program of one kind of call, from its file if it has one."""
    devices = [device for *_, places in shown for device, _ in places or ()] or jax.devices()[:1]
    options: dict[str, Any] = compiler_options(devices[0].platform, runs_for)
    told: Any = None
    if folder is not None:
        try:
            told = _told(static)
        except ValueError:  # code that is not of herjax is told by what becomes of it
            lowered = lower()
            told, lower = _meaning(lowered), lambda: lowered

    def compile() -> jax.stages.Compiled:
        return lower().compile(compiler_options=options)

    if folder is None or told is None:
        return compile()
    about = (_name(function), str(tree), shown, told, options, settings, _environment(devices[0]))
    digest = hashlib.sha256(repr((_version(), _machine(), about)).encode()).hexdigest()
    client = devices[0].client
    return _kept(folder / f"herjax-{digest[:32]}.program", digest, tree, client, compile)


def _told(value: Any) -> Any:
    """What a static argument is, in a form that stays the same from run to run.

    Raises:
      ValueError: see ``_own``.
    """
    if isinstance(value, tuple):
        return tuple(map(_told, value))
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        fields = [field.name for field in dataclasses.fields(kind) if field.repr]
        return _own(kind), [(name, _told(getattr(value, name))) for name in fields]
    if not callable(value) or isinstance(value, jax.sharding.Mesh):  # a mesh is a decorator, too
        return repr(value)
    return _own(value)


def _meaning(lowered: jax.stages.Lowered) -> str | None:
    """A digest of all that is computed; None if it calls back into this process."""
    text = lowered.as_text()
    calls_back = "callback" in text or "host_transfer" in text  # the latter on TPUs
    return None if calls_back else hashlib.sha256(text.encode()).hexdigest()


def _own(made: Any) -> str:
    """The name of a function or class of herjax, which stands for what it does.

    Raises:
      ValueError: for another one, which may do something else tomorrow.
    """
    if not str(getattr(made, "__module__", None)).startswith("herjax."):
        raise ValueError(f"{made} is not one of herjax")
    return _name(made)


def _name(made: Any) -> str:
    """Where a function or class is defined.

    Raises:
      ValueError: if it is not what its module calls so: a lambda, or made from another function.
    """
    module, name = made.__module__, getattr(made, "__name__", "")
    if getattr(sys.modules[module], name, None) is not made:
        raise ValueError(f"{module}.{name} is another function")
    return f"{module}.{name}"


def clear() -> None:
    """Free the programs of this process, compiled ones included."""
    _calls.clear()
    _making.clear()
    jax.clear_caches()


def _folder_now() -> pathlib.Path | None:
    """Where to keep programs: ``keep_in``'s folder, else JAX's; no place for several processes."""
    if jax.process_count() > 1:
        return None
    return _folder or _folder_of_jax(_config.jax_compilation_cache_dir)


@functools.cache
def _folder_of_jax(name: str | None) -> pathlib.Path | None:
    if not name or "://" in name:
        return None
    try:
        return _private(name)
    except (ValueError, OSError) as error:
        log.warning("compiled programs are not kept: %s", error)
        return None


# ---- What a program depends on ------------------------------------------------------------------


def _shown(leaf: Any) -> tuple:
    """Type and places of an argument, in a form that compares and prints."""
    on = _places(leaf.sharding, leaf.shape) if isinstance(leaf, jax.Array) else None
    about = jax.typeof(leaf)  # of JAX 0.11, two of a kind may differ if one was unpickled
    return about.shape, about.dtype, about.weak_type, on


@functools.lru_cache(4096)
def _places(sharding: jax.sharding.Sharding, shape: tuple[int, ...]) -> tuple:
    """Which part of an array is on which device: equal however the sharding is written."""
    parts = sharding.devices_indices_map(shape)
    return tuple((device, repr(part)) for device, part in parts.items())


@functools.cache
def _version() -> str:
    """Of the code that is traced: the libraries, and every module of herjax."""
    modules = sorted(pathlib.Path(__file__).parents[1].rglob("*.py"))
    digest = hashlib.sha256(b"".join(module.read_bytes() for module in modules)).hexdigest()
    libraries = map(importlib.metadata.version, ("jax", "jaxlib", "flax", "optax", "chex"))
    return " ".join([*libraries, *map(str, sys.version_info[:2]), digest])


@functools.cache
def _machine() -> tuple[str, ...]:
    """The processor and what it can do: programs are compiled for exactly that."""
    about = [platform.machine(), platform.processor(), sys.platform]
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith(("model name", "flags", "Features", "CPU ")):
                about.append(line.strip())
            if not line.strip():  # the next core is of the same kind
                break
    return tuple(about)


def _settings() -> tuple:
    """JAX's, as they are in this thread now."""
    return tuple(sorted((k, str(v)) for k, v in jax.config.values.items() if "cache" not in k))


def _environment(device: jax.Device) -> tuple:
    """All else that decides what is compiled."""
    flags = given_flags(), os.environ.get("LIBTPU_INIT_ARGS")
    return flags, device.device_kind, device.client.platform_version


# ---- Files --------------------------------------------------------------------------------------


def _kept(
    path: pathlib.Path,
    digest: str,
    tree: Any,
    client: Any,
    compile: Callable[[], jax.stages.Compiled],
) -> Callable:
    """The program that the file holds; compiled and written if it is missing or damaged."""
    if path.exists():
        start = time.perf_counter()
        try:
            program = _load(path, digest, tree, client)
        except Exception as error:  # what unpickling and XLA raise is no fixed set
            reason = (str(error) or repr(error)).splitlines()[0]
            log.warning("kept program could not be loaded (%s): compiling again", reason)
        else:
            with contextlib.suppress(OSError):
                os.utime(path)  # it was used
            seconds = time.perf_counter() - start
            jax.monitoring.record_event_duration_secs("/jax/core/compile/herjax_load", seconds)
            return program
    compiled = _compile_anew(compile)
    try:
        write_in_a_crowd(path, _serialized(digest, compiled), prefix="herjax-")
        _remove_old(path.parent)
    except Exception as error:  # nor is what serialising raises: the run goes on
        reason = (str(error) or repr(error)).splitlines()[0]
        log.warning("compiled program not kept: %s", reason)
    return compiled


def _compile_anew(compile: Callable[[], jax.stages.Compiled]) -> jax.stages.Compiled:
    """Compile without JAX's persistent cache.

    XLA:CPU leaves functions out when it writes a program that it has itself read: such a file
    loads, and then fails or crashes when it runs.
    """
    global _compiling, _cache_of_jax
    with _turn:
        _compiling += 1
        if _compiling == 1:
            _cache_of_jax = _config.jax_enable_compilation_cache
            _use_cache_of_jax(False)
    try:
        return compile()
    finally:
        with _turn:
            _compiling -= 1
            if not _compiling:
                _use_cache_of_jax(_cache_of_jax)


def _use_cache_of_jax(enabled: bool) -> None:
    jax.config.update("jax_enable_compilation_cache", enabled)
    compilation_cache.reset_cache()  # it looks at the setting once


def _serialized(digest: str, program: jax.stages.Compiled) -> bytes:
    executable, _, out_tree = serialize_executable.serialize(program)
    loaded: Any = program.runtime_executable()
    devices = [device.id for device in loaded.local_devices()]
    data = zlib.compress(pickle.dumps((digest, devices, executable, out_tree)), 1)
    return hashlib.sha256(data).digest() + data


def _load(path: pathlib.Path, digest: str, tree: Any, client: Any) -> Callable:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE:
        raise ValueError(f"{path} is no program: {found.st_size:,} bytes")
    if hasattr(os, "getuid") and (found.st_uid not in (os.getuid(), 0) or found.st_mode & 0o022):
        raise ValueError(f"others may have written {path}")
    content = path.read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise ValueError(f"damaged {path}")
    kept, ids, executable, out_tree = pickle.loads(zlib.decompress(content[32:]))
    if kept != digest:
        raise ValueError(f"{path} is of another program")
    devices = {device.id: device for device in client.devices()}
    return serialize_executable.deserialize_and_load(
        executable, tree, out_tree, client, [devices[i] for i in ids]
    )


def _remove_old(folder: pathlib.Path) -> None:
    """Bound a folder: MAX_AGE, then MAX_BYTES. Other files than ours are left alone."""
    files = []
    for path in (*folder.glob("herjax-*.program"), *folder.glob("herjax-*.part")):
        with contextlib.suppress(FileNotFoundError):  # another process removes, too
            found = path.stat()
            files.append((found.st_mtime, found.st_size, path))
    total = 0
    for used, size, path in sorted(files, reverse=True):
        total += size
        if total > MAX_BYTES or used < time.time() - MAX_AGE:
            path.unlink(missing_ok=True)
