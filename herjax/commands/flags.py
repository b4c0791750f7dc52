"""Frozen dataclasses as command-line flags with dotted names: ``--model.width=128``."""

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import os
import pathlib
import re
import sys
import traceback
import typing
from collections.abc import Callable
from typing import Any

from absl import flags

from herjax.dsl.canonical import canonical_program, program_as_said, pruned_program
from herjax.learning import rivals, selection
from herjax.learning.hindsight import hindsight
from herjax.learning.optimizers import clipped_adam
from herjax.runtime.config import check_function
from herjax.tasks.random import random_program

flags.disclaim_key_flags()  # they are those of the module that calls, for its --help

# The functions that a field may hold, and the learners, by their names on the command line. What a
# user has written comes to them by ``function_named``.
FUNCTIONS: dict[str, dict[str, Callable]] = {
    "learner": {
        "hindsight": hindsight,
        "best-of-n": rivals.best_of_n,
        "self-training": rivals.self_training,
        "hindsight+self-training": rivals.hindsight_and_self_training,
        "longer-dream": rivals.longer_dream,
        "grpo": rivals.grpo,
        "grpo-solved": rivals.grpo_solved,
        "rloo": rivals.rloo,
        "entropic": rivals.entropic,
        "max-at-k": rivals.max_at_k,
    },
    "optimizer": {"adam": clipped_adam},
    "rewrite": {
        "canonical": canonical_program,
        "pruned": pruned_program,
        "as-said": program_as_said,
    },
    "distinct": {
        "shortest": selection.keep_shortest,
        "first": selection.keep_first,
        "all": selection.keep_all,
    },
    "select": {
        "all": selection.select_all,
        "best": selection.select_best,
        "diverse": selection.select_diverse,
    },
    "program": {"uniform": random_program},
    "order": {
        "sorted": selection.order_sorted,
        "shuffled": selection.order_shuffled,
        "reversed": selection.order_reversed,
    },
}


def define_flags(config: Any, prefix: str = "", values: flags.FlagValues = flags.FLAGS) -> None:
    """Define an absl flag for every field of a (nested) dataclass; unset means its default.

    Supported fields: int, float, str, bool, nested dataclasses, tuples of int or float, and
    functions in ``FUNCTIONS``. The help is that of the dataclass's docstring.
    """
    told = _attributes(config)
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        text = told.get(field.name, "").replace("`", "")
        text = text[:1].upper() + text[1:]
        if dataclasses.is_dataclass(value):
            define_flags(value, name + ".", values)
        elif isinstance(value, bool):
            flags.DEFINE_bool(name, None, f"{text} Default {value}.", flag_values=values)
        elif isinstance(value, int):
            flags.DEFINE_integer(name, None, f"{text} Default {value}.", flag_values=values)
        elif isinstance(value, float):
            flags.DEFINE_float(name, None, f"{text} Default {value}.", flag_values=values)
        elif callable(value):
            text = f"{text} Default {name_of(value, field.name)}."
            define_function(name, None, text, values)
        else:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            text = f"{text} Default {shown}." if shown else text
            flags.DEFINE_string(name, None, text, flag_values=values)


MODULE = r"\w+(\.\w+)*:\w+"  # with a function of it


class _FunctionParser(flags.ArgumentParser[str]):
    """The name of a known function, or module:function."""

    def __init__(self, known: str):
        self._known = known

    def parse(self, argument: str) -> str:
        if argument not in self._known.split("|") and not re.fullmatch(MODULE, argument):
            raise ValueError(f"value should be one of <{self._known}|MODULE:FUNCTION>")
        return argument


def define_function(
    name: str, default: str | None, text: str, values: flags.FlagValues = flags.FLAGS
) -> flags.FlagHolder:
    """Define a flag for the name of one of FUNCTIONS, or of one of the user's own."""
    known = "|".join(FUNCTIONS[_field(name)])
    text = f"<{known}|MODULE:FUNCTION>: {text}"
    return flags.DEFINE(_FunctionParser(known), name, default, text, flag_values=values)


def function_named(flag: str, name: str) -> Callable:
    """The function that a flag names; one of the user's own is in FUNCTIONS from then on.

    Modules are looked for in the current folder, too, and imported: JAX must have its devices then.

    Raises:
      ValueError: if there is no such module or function.
    """
    known = FUNCTIONS[_field(flag)]
    if name not in known:
        module, _, function = name.partition(":")
        if not {"", os.getcwd()} & set(sys.path):  # console scripts leave it out
            sys.path.insert(0, os.getcwd())
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):
                raise  # what a package around it lacks
            spec = None
        if spec is None:
            raise ValueError(f"--{flag}={name}: there is no module {module}")
        if not (spec.has_location and spec.origin):
            raise ValueError(f"--{flag}={name}: {module} has no file to tell it by")
        _files[module] = spec.origin
        found = getattr(importlib.import_module(module), function, None)
        if found is None:
            raise ValueError(f"--{flag}={name}: {spec.origin} has no function {function}")
        check_function(f"--{flag}", found)
        known[name] = found
    return known[name]


def _field(flag: str) -> str:
    return flag.rpartition(".")[2]


_files: dict[str, str] = {}  # of the user's modules that hold functions named so far


OWN = "modules_sha256"  # in run.json


def own_code() -> dict[str, dict[str, str]]:
    """For run.json: the sha256 of the files of the user's modules; nothing if there are none."""
    read = {name: pathlib.Path(file).read_bytes() for name, file in sorted(_files.items())}
    found = {name: hashlib.sha256(data).hexdigest() for name, data in read.items()}
    return {OWN: found} if found else {}


def is_of_own(error: BaseException) -> bool:
    """Was it raised in, or through, a module of the user's?"""
    frames = traceback.walk_tb(error.__traceback__)
    return not {frame.f_code.co_filename for frame, _ in frames}.isdisjoint(_files.values())


def _attributes(config: Any) -> dict[str, str]:
    """What the docstring of a dataclass says of its fields, under ``Attributes:``."""
    # Python 3.13 has taken the indentation away, those before have not.
    _, _, text = inspect.cleandoc(type(config).__doc__ or "").partition("Attributes:\n")
    found = re.findall(r"^ {2}(\w+): (.*(?:\n {4}.*)*)", text, flags=re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}


def read_flags(config: Any, values: flags.FlagValues, prefix: str = "", own: bool = True) -> Any:
    """The dataclass with the fields replaced that were set on the command line.

    Without ``own``, functions of the user's own are left out.

    Raises:
      ValueError: if a tuple does not parse, or the dataclass rejects a value.
    """
    changes = {}
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            changes[field.name] = read_flags(value, values, name + ".", own)
        elif (given := values[name].value) is not None:
            if isinstance(value, tuple):
                given = _parse_tuple(name, given, field.type)
            elif callable(value):
                given = function_named(name, given) if own or ":" not in given else value
            changes[field.name] = given
    return dataclasses.replace(config, **changes)


def _parse_tuple(name: str, text: str, kind: Any) -> tuple:
    """``kind`` is the field's type, tuple[int, ...] or tuple[float, ...]."""
    element = typing.get_args(kind)[0]
    try:
        return tuple(element(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ValueError(
            f"--{name}={text}: expected {element.__name__}s separated by commas"
        ) from None


def to_json(config: Any) -> dict[str, Any]:
    """A dataclass as JSON holds it; functions by their names on the command line."""
    values = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = to_json(value)
        elif isinstance(value, tuple):
            value = list(value)
        elif callable(value):
            value = name_of(value, field.name)
        values[field.name] = value
    return values


def name_of(function: Callable, field: str) -> str:
    """The name on the command line of a function that a field holds."""
    return next(name for name, known in FUNCTIONS[field].items() if known is function)
