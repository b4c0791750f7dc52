"""What is on disk of a run, and whether to believe it when the run is continued.

Of a pretraining, metrics.jsonl: a checkpoint knows a digest of its lines. Of an adaptation, what a
member that has ended leaves behind.

SHA256SUMS, which ``sha256sum -c`` reads, has a line for every file of a member. It is written
before result.json, which comes last: with it the member is done.
"""

import hashlib
import itertools
import json
import logging
import math
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from herjax.runtime import processes, records
from herjax.runtime.files import CheckpointError, write_atomically

log = logging.getLogger(__name__)
RESULT, SUMS = "result.json", "SHA256SUMS"
FILES = (
    "report.html",
    "solution.py",
    "best_predictions.png",
    "adaptation.gif",
    "accuracy_distribution.png",
)
WEIGHTS = ("model/config.json", "model/model.safetensors")  # with --save_weights


def _count(least: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= least


def _seconds(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _shares(value: Any) -> bool:
    """A list by epoch of what is right, 0 .. 1."""
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(type(share) in (int, float) and 0 <= share <= 1 for share in value)
    )


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda value: type(value) is kind


# The fields of result.json, and what each must be.
SCHEMA: dict[str, Callable[[Any], bool]] = {
    "task": _is(str),
    "seed": _count(0),
    "solved": _is(bool),
    "epochs": _count(1),
    "programs_sampled": _count(1),
    "programs_run": _count(0),
    "best_accuracy": _shares,
    "best_attempt": _shares,
    "mean_attempt": _shares,
    "draws": _count(0),
    "least_draws": _count(0),
    "colours": _count(1),
    "seconds_run": _seconds,
    "seconds_compile": _seconds,
    "weights_sha256": _is(str),
    "config": _is(dict),
    "versions": _is(dict),
    "device": _is(str),
}


def read_result(folder: pathlib.Path) -> dict[str, Any]:
    """The result of a member that has ended.

    Raises:
      CheckpointError: if it is missing, or not what a run writes.
    """
    path = folder / RESULT
    if not path.exists():
        raise CheckpointError(f"missing {path}")
    values = records.read_object(path)
    for name, fits in SCHEMA.items():
        if name not in values:
            raise CheckpointError(f"damaged {path}: no {name}")
        if not fits(values[name]):
            raise CheckpointError(f"damaged {path}: {name} is {str(values[name])[:60]!r}")
    for name in ("best_accuracy", "best_attempt", "mean_attempt"):
        if len(values[name]) != values["epochs"]:
            raise CheckpointError(
                f"damaged {path}: {len(values[name])} of {name}, {values['epochs']} epochs"
            )
    if values["solved"] != (max(values["best_accuracy"]) == 1):
        raise CheckpointError(f"damaged {path}: solved does not fit best_accuracy")
    return values


def write_sums(folder: pathlib.Path, names: Iterable[str], result: bytes) -> None:
    """SHA256SUMS of the files there are, and of the ``result`` that is still to be written."""
    lines = "".join(f"{_sha256(folder / name)}  {name}\n" for name in names)
    write_atomically(folder / SUMS, (lines + digests({RESULT: result})).encode())


def digests(files: Mapping[str, bytes]) -> str:
    """Lines of SHA256SUMS for files that are still to be written, by their names."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())


def damage(folder: pathlib.Path, task: str, seed: int, weights: bool) -> dict[str, str]:
    """What is wrong with the files of a member that has ended, by file name; {} if nothing is.

    Args:
      folder: with its result.json.
      task: whose result it must be.
      seed: likewise.
      weights: must the adapted weights be there?
    """
    found: dict[str, str] = {}
    try:
        values = read_result(folder)
        if (values["task"], values["seed"]) != (task, seed):
            found[RESULT] = f"of {values['task']}, seed {values['seed']}"
        sums = _read_sums(folder / SUMS)
    except (CheckpointError, OSError) as error:
        reason = str(error)
        return {SUMS if SUMS in reason else RESULT: reason}
    for name in dict.fromkeys([RESULT, *FILES, *(WEIGHTS if weights else ()), *(sums or ())]):
        path = folder / name
        if not path.is_file():
            found[name] = "missing"
        elif sums is not None and _sha256(path) not in sums.get(name, ()):
            found[name] = "changed" if name in sums else f"not in {SUMS}"
    return found


def set_aside(folder: pathlib.Path, names: Iterable[str]) -> None:
    """Keep damaged files under another name: they may be what someone has edited."""
    for name in names:
        path = folder / name
        if not path.exists():
            continue
        others = (f"damaged-{path.name}{f'-{i}' if i > 1 else ''}" for i in itertools.count(1))
        path.rename(next(new for each in others if not (new := path.with_name(each)).exists()))


def digest(lines: list[dict]) -> str:
    """Of what was logged: a checkpoint knows it."""
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def logged(path: pathlib.Path, known: dict | None, step: int) -> list[dict]:
    """The lines of metrics.jsonl up to a checkpoint; what came later is logged again.

    Args:
      path: of the file. If it does not fit the checkpoint it is set aside, with a warning, and what
        can be read of it is kept.
      known: how many lines there were, and their digest; None: none.
      step: of the checkpoint.
    """
    if known is None:
        return []
    try:
        lines = records.read_lines(path)
        reason = "" if digest(lines[: known["lines"]]) == known["sha256"] else "changed"
    except (CheckpointError, OSError) as error:
        lines, reason = [], str(error)
    if not processes.anywhere(bool(reason)):
        return lines[: known["lines"]]
    log.warning("%s does not fit the checkpoint of step %d (%s): set aside", path, step, reason)
    processes.on_first(lambda: set_aside(path.parent, [path.name]))
    steps = [(line, line.get("step")) for line in lines[: known["lines"]]]
    return [line for line, at in steps if type(at) is int and at <= step]


def _read_sums(path: pathlib.Path) -> dict[str, set[str]] | None:
    """Digests by file name; None without a file, as a run of an earlier version leaves it.

    A file has two while it is replaced, the old and the new one.
    """
    if not path.exists():
        return None
    sums: dict[str, set[str]] = {}
    for number, line in enumerate(records.read_text(path).splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-f]{64})  ([\w.-]+(?:/[\w.-]+)*)", line)
        if match is None or ".." in match.group(2):
            raise CheckpointError(f"damaged {path}: line {number}")
        sums.setdefault(match.group(2), set()).add(match.group(1))
    return sums


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
