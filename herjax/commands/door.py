"""Before a command: its options parsed, and one line for what does not parse."""

import math
import os
import pathlib
import re
import signal
import sys
from typing import NoReturn

from absl import flags

from herjax.runtime.config import did_you_mean
from herjax.runtime.files import read_bounded

flags.disclaim_key_flags()
MAX_FLAG_FILE = 100_000  # bytes
MAX_FLAG_FILES = 5
MAX_NAME = 100  # characters of an option


def fail(message: object) -> NoReturn:
    """One line on standard error and exit code 2."""
    tell("error", message)
    sys.exit(2)


def tell(kind: str, message: object) -> None:
    """One line on standard error."""
    # What is not printable could move the cursor, or end the line.
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(message))
    print(f"{kind}: {text}", file=sys.stderr)


def parse(arguments: list[str]) -> list[str]:
    """What of a command line is no flag; the flags have their values then.

    ``--help`` exits with 0, what does not parse with 2 and one line.
    """
    try:
        for name in (argument.partition("=")[0] for argument in arguments[1:]):
            if name.startswith("--") and len(name) > MAX_NAME:  # absl would look for near ones long
                raise ValueError(f"unknown option {name[:MAX_NAME]}...")
        check_flag_files(arguments[1:])
        rest = flags.FLAGS(arguments)
        for name in flags.FLAGS:
            value = flags.FLAGS[name].value
            if isinstance(value, str | list):
                flags.FLAGS[name].value = at_home(value)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"--{name} must be finite, got {value}")
    except SystemExit:  # absl's, after --help
        sys.exit(0)
    except BrokenPipeError:  # its reader has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except flags.UnrecognizedFlagError as error:
        known = [name for name in flags.FLAGS if len(name) > 1]
        given = str(error.flagname)
        fail(f"unknown option --{given[:100]}{did_you_mean(given, known, 0.7)}; --help lists all")
    except (flags.Error, ValueError, OSError) as error:
        message = (str(error) or repr(error)).splitlines()[-1]
        if enum := re.search(r"(?:=|: )([^=:]*): value should be one of <(.*)>", message):
            message += did_you_mean(enum[1], enum[2].split("|"))
        fail(message)
    return rest


def at_home(value: str | list) -> str | list:
    """A path that begins with ~/, or several with commas: shells leave that alone after an =."""
    if isinstance(value, list):
        return [at_home(each) if isinstance(each, str) else each for each in value]
    return ",".join(
        os.path.expanduser(path) if path.startswith("~/") else path for path in value.split(",")
    )


def check_flag_files(arguments: list[str], read: list[str] | None = None) -> None:
    """ValueError unless the files of ``--flagfile``, and those in them, are few and short texts."""
    read = [] if read is None else read  # so far
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        name, equals, value = argument.strip().partition("=")
        if name in ("--flagfile", "-flagfile") and (path := value if equals else following):
            if len(read) == MAX_FLAG_FILES:
                raise ValueError(f"--flagfile: more than {MAX_FLAG_FILES} files inside each other")
            read.append(path)
            try:
                text = read_bounded(pathlib.Path(path).expanduser(), MAX_FLAG_FILE).decode()
            except UnicodeDecodeError:
                raise ValueError(f"--flagfile: {path} is no text") from None
            check_flag_files(text.splitlines(), read)
