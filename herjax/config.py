"""Frozen dataclasses as command-line flags with dotted names: ``--model.width=128``."""

import dataclasses
import typing
from typing import Any

from absl import flags

flags.disclaim_key_flags()  # they are those of the module that calls, for its --help


def define_flags(config: Any, prefix: str = "", values: flags.FlagValues = flags.FLAGS) -> None:
    """Define an absl flag for every field of a (nested) dataclass; unset means its default.

    Supported fields: int, float, str, bool, nested dataclasses, and tuples of int or float.
    """
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        text = f"default {value}"
        if dataclasses.is_dataclass(value):
            define_flags(value, name + ".", values)
        elif isinstance(value, bool):
            flags.DEFINE_bool(name, None, text, flag_values=values)
        elif isinstance(value, int):
            flags.DEFINE_integer(name, None, text, flag_values=values)
        elif isinstance(value, float):
            flags.DEFINE_float(name, None, text, flag_values=values)
        else:
            flags.DEFINE_string(name, None, text, flag_values=values)


def read_flags(config: Any, values: flags.FlagValues, prefix: str = "") -> Any:
    """The dataclass with the fields replaced that were set on the command line.

    Raises:
      ValueError: if a tuple does not parse, or the dataclass rejects a value.
    """
    changes = {}
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            changes[field.name] = read_flags(value, values, name + ".")
        elif (given := values[name].value) is not None:
            changes[field.name] = (
                _parse_tuple(name, given, field.type) if isinstance(value, tuple) else given
            )
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


def from_dict(config: Any, values: dict) -> Any:
    """The dataclass with fields replaced by those of a (nested) dict, as ``asdict`` writes it."""
    changes = {}
    for name, value in values.items():
        current = getattr(config, name)
        if dataclasses.is_dataclass(current):
            value = from_dict(current, value)
        changes[name] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(config, **changes)
