"""What a report tells of the run that made it."""

import pathlib
import shlex
import sys
from collections.abc import Sequence

from herjax.commands import cli


def run_facts(values: dict) -> dict[str, str]:
    """What the report of a member tells of its run, from the values of its result.json."""
    seconds = (f"{values[name]:.1f}" for name in ("seconds_run", "seconds_compile"))
    return {
        "seconds": "{} seconds, and {} of compiling".format(*seconds),
        "command": this_command(),
        "device": values["device"],
        "versions": ", ".join(f"{name} {version}" for name, version in values["versions"].items()),
        "weights": f"sha256 {values['weights_sha256']}",
    }


def this_command() -> str:
    """What to type for the run of this process, as ``command_line`` tells it."""
    return command_line([cli.called() or sys.argv[0], *sys.argv[1:]])


def command_line(arguments: Sequence[str]) -> str:
    """What to type for the same run; without --workdir, as no run goes into another's folder."""
    name, rest = arguments[0], iter(arguments[1:])
    module = pathlib.Path(name).stem
    told = [f"python -m experiments.{module}" if name.endswith(".py") else module]
    for argument in rest:
        if argument in ("--workdir", "-workdir"):
            next(rest, None)  # the folder
        elif not argument.lstrip("-").startswith("workdir="):
            told.append(shlex.quote(argument))
    return " ".join(told)
