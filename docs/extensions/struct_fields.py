"""Adds the defaults of configurations to what their docstrings say of their fields."""

import dataclasses
import re

from numpy.typing import ArrayLike

# Python replaces this name by a union of ten types; the page shows the name.
NAMES = {ArrayLike: "ArrayLike", ArrayLike | None: "OptionalArrayLike"}


def setup(app):
    app.connect("autodoc-before-process-signature", name_types)
    app.connect("autodoc-process-docstring", before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", after_napoleon, priority=600)
    app.connect("autodoc-skip-member", skip_constructors)
    return {"parallel_read_safe": True}


def name_types(app, obj, bound_method):
    for argument, annotation in getattr(obj, "__annotations__", {}).items():
        for union, name in NAMES.items():
            if annotation == union:
                obj.__annotations__[argument] = name


def skip_constructors(app, what, name, obj, skip, options):
    return name in ("__init__", "__new__") or None


HIDDEN = r":vartype .*(Callable|jax\.jaxlib)"  # types that say less than the words beside them
plain = {}  # docstrings of properties


def before_napoleon(app, what, name, obj, options, lines):
    if what == "property":  # napoleon takes "bool [A]: which rows" for a type and its description
        plain[name] = list(lines)
    if what == "class":
        add_defaults(obj, lines)


def after_napoleon(app, what, name, obj, options, lines):
    if name in plain:
        lines[:] = plain.pop(name)
    lines[:] = [line for line in lines if not re.match(HIDDEN, line)]


def add_defaults(struct: type, lines: list[str]) -> None:
    """Say the default of each field in the list of them that a docstring has."""
    fields, text = split_attributes("\n".join(lines))
    if fields:
        entries = [f"  {field}: {words}{default(struct, field)}" for field, words in fields.items()]
        lines[:] = [*text.splitlines(), "", "Attributes:", *entries, ""]


def split_attributes(docstring: str) -> tuple[dict[str, str], str]:
    """What a docstring says of its attributes, and the rest of it."""
    text, _, attributes = docstring.partition("\nAttributes:\n")
    found = re.findall(r"^ {2}(\w+): (.*(?:\n {4}.*)*)", attributes, flags=re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}, text


def default(struct: type, field: str) -> str:
    """Such as "Default: 12." for a field of a dataclass that has one."""
    if not dataclasses.is_dataclass(struct):
        return ""
    value = struct.__dataclass_fields__[field].default
    if value is dataclasses.MISSING or dataclasses.is_dataclass(value):
        return ""
    shown = value.__name__ if callable(value) else repr(value)
    return f" Default: ``{shown}``."
