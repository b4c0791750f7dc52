"""What is checked at the door: configurations, numbers, names. Errors say what is allowed."""

import collections.abc
import dataclasses
import difflib
import operator
import reprlib
import typing
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")
MOST = 2**31 - 1  # of any integer: what int32 holds
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120  # characters: the names of files are told whole
_NAMES = {int: "an integer", float: "a number", bool: "True or False", str: "a string"}


def check_types(config: Any) -> None:
    """Check that every field of a dataclass holds what its annotation says.

    Numbers of NumPy become Python's, which can be written as JSON, integers floats where one should
    be, lists tuples, and a number where there should be several a tuple of it.

    Raises:
      ValueError: naming the field, what is allowed, and the value.
    """
    for field in dataclasses.fields(config):
        kind: Any = field.type  # a string only with annotations from __future__
        element = typing.get_args(kind)[:1]
        several = typing.get_origin(kind) is tuple
        value = _plain(getattr(config, field.name), several, float in (kind, *element))
        object.__setattr__(config, field.name, value)  # it may be frozen
        if several:
            good = type(value) is tuple and all(_is(part, element[0]) for part in value)
            allowed = f"a tuple, each of it {_NAMES[element[0]]}"
        elif typing.get_origin(kind) is collections.abc.Callable:
            good, allowed = callable(value), "a function"
        else:
            good, allowed = _is(value, kind), _NAMES.get(kind, f"a {kind.__name__}")
        if not good:
            raise ValueError(f"{field.name} must be {allowed}, got {told(value)}")
        for number in value if type(value) is tuple else (value,):
            if type(number) is int and abs(number) > MOST:
                raise ValueError(f"{field.name} must be at most {MOST}, got {told(number)}")


def _plain(value: Any, several: bool, real: bool) -> Any:
    """Without NumPy; a tuple where there may be ``several``; a float where it is ``real``."""
    value = value.item() if isinstance(value, np.generic) else value
    if several:
        parts = (value,) if type(value) in (int, float) else value
        several = type(parts) in (tuple, list)
        return tuple(_plain(part, False, real) for part in parts) if several else parts
    # One that is too large is told later.
    return float(value) if real and type(value) is int and abs(value) <= MOST else value


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind if kind in _NAMES else isinstance(value, kind)


def check_integer(name: str, value: Any, least: int, most: int = MOST) -> int:
    """An integer of Python, NumPy or JAX as one of Python.

    Raises:
      ValueError: with ``name``, what is allowed, and the value, if it is none or out of range.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not least <= number <= most:
        raise ValueError(f"{name} must be an integer, {least} .. {most}, got {told(value)}")
    return number


def check_function(name: str, value: Any) -> None:
    """ValueError with ``name`` unless the value can be called, and has a hash, as JAX needs it."""
    if not callable(value):
        raise ValueError(f"{name} must be a function, got {told(value)}")
    try:
        hash(value)
    except TypeError:
        raise ValueError(f"{name} must be hashable, and {told(value)} is not") from None


def check_array(name: str, value: Any, shape: tuple[int, ...], *dtypes: str) -> None:
    """ValueError with ``name`` unless an array, which may be traced, has this shape and a type."""
    dtype = str(getattr(value, "dtype", type(value).__name__))
    if np.shape(value) != shape or dtype not in dtypes:
        given = f"{dtype} {[*np.shape(value)]}"
        raise ValueError(f"{name} must be {' or '.join(dtypes)} {[*shape]}, got {given}")


def told(value: Any) -> str:
    """A value in a message: one short line."""
    try:
        return " ".join(_SHORT.repr(value).split())
    except Exception:  # an integer of too many digits, or a repr that fails
        return f"one {type(value).__name__} that cannot be written out"


def did_you_mean(given: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``" (did you mean 'chick'?)"`` if a known name is near the given one; else nothing.

    ``cutoff`` is how near, of 1 (see ``difflib``).
    """
    near = difflib.get_close_matches(given[:100], list(known), n=1, cutoff=cutoff)
    return f" (did you mean {near[0]!r}?)" if near else ""


def from_dict(config: Config, values: Any) -> Config:
    """The dataclass with fields replaced by those of a (nested) dict, as ``asdict`` writes it.

    Raises:
      ValueError: if it is no dict, or has a field that the dataclass lacks, or a bad value.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{type(config).__name__} must be fields by name, got {told(values)}")
    names = [field.name for field in dataclasses.fields(config)]
    changes = {}
    for name, value in values.items():
        if name not in names:
            raise ValueError(f"{type(config).__name__} has no field {told(name)}")
        current = getattr(config, name)
        if dataclasses.is_dataclass(current) and not isinstance(current, type):
            value = from_dict(current, value)
        changes[name] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(config, **changes)
