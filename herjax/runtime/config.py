"""Frozen dataclasses as configurations: their types checked, and read back from JSON."""

import collections.abc
import dataclasses
import typing
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")
_NAMES = {int: "an integer", float: "a number", bool: "True or False", str: "a string"}


def check_types(config: Any) -> None:
    """Check that every field of a dataclass holds what its annotation says.

    Raises:
      ValueError: naming the field, what is allowed, and the value.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        kind: Any = field.type  # a string only with annotations from __future__
        element = typing.get_args(kind)[:1]
        if typing.get_origin(kind) is tuple:
            good = type(value) is tuple and all(_is(part, element[0]) for part in value)
            allowed = f"a tuple, each of it {_NAMES[element[0]]}"
        elif typing.get_origin(kind) is collections.abc.Callable:
            good, allowed = callable(value), "a function"
        else:
            good, allowed = _is(value, kind), _NAMES.get(kind, f"a {kind.__name__}")
        if not good:
            raise ValueError(f"{field.name} must be {allowed}, got {value!r}")


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind if kind in _NAMES else isinstance(value, kind)


def from_dict(config: Config, values: dict) -> Config:
    """The dataclass with fields replaced by those of a (nested) dict, as ``asdict`` writes it."""
    changes = {}
    for name, value in values.items():
        current = getattr(config, name)
        if dataclasses.is_dataclass(current) and not isinstance(current, type):
            value = from_dict(current, value)
        changes[name] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(config, **changes)
