"""The DSL again: the plain NumPy and scikit-image calls that exported programs carry with them.

No table of the package is read here, so that a wrong one cannot agree with itself. Ids and
arguments of the calls come from ``drawing.py``: the functions in the order in which they are
defined there, with their parameters. So the referee follows a new call without being edited.
"""

import inspect

import numpy as np

from herjax.dsl import drawing

CALLS = [call for _, call in vars(drawing).items() if inspect.isfunction(call)]
ALL_OPS = len(CALLS)
ARGUMENTS = [list(inspect.signature(call).parameters)[1:] for call in CALLS]  # without the image
# Columns of a record (op, colour, r1, c1, r2, c2) that hold the value of an argument.
COLUMNS = {"point1": (2, 3), "point2": (4, 5), "point": (2, 3), "y": (2,), "x": (3,), "color": (1,)}


def used_columns(op):
    """Record columns that a call reads, by its id; without the op's own."""
    return [column for name in ARGUMENTS[op - 1] for column in COLUMNS[name]]


def draw(canvas, record):
    """Paint one draw in place; an op of 0 paints nothing."""
    if record[0] == 0:
        return
    arguments = {}
    for name in ARGUMENTS[record[0] - 1]:
        values = tuple(int(record[column]) for column in COLUMNS[name])
        arguments[name] = values if len(values) > 1 else values[0]
    CALLS[record[0] - 1](canvas, **arguments)


def cells(record, shape):
    """Boolean mask of the cells a record paints."""
    mask = np.zeros(shape, int)
    draw(mask, [record[0], 1, *record[2:]])
    return mask == 1


def execute(program, canvas):
    """Paint in order, one draw after the other."""
    canvas = np.array(canvas)
    for record in program:
        draw(canvas, record)
    return canvas


def random_program(rng, draws, height, width, ops=ALL_OPS):
    """Uniform ops and parameters inside the canvas; unused fields 0."""
    limits = [ops, 10, height, width, height, width]
    program = rng.integers(limits, size=(draws, 6)) + [1, 0, 0, 0, 0, 0]
    for record in program:
        used = used_columns(record[0])
        record[[column for column in range(1, 6) if column not in used]] = 0
    return program.astype(np.int32)
