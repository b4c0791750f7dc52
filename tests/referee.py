"""The DSL again: the plain NumPy and scikit-image calls that exported programs carry with them."""

import numpy as np

from herjax.dsl import drawing
from herjax.dsl.ops import ARGUMENT_COLUMNS, END, OPS

ALL_OPS = len(OPS)


def draw(canvas, record):
    """Paint one draw in place; END paints nothing."""
    if record[0] == END:
        return
    op = OPS[record[0] - 1]
    arguments = {}
    for name in op.arguments:
        values = tuple(int(record[column]) for column in ARGUMENT_COLUMNS[name])
        arguments[name] = values if len(values) > 1 else values[0]
    getattr(drawing, op.name)(canvas, **arguments)


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
        unused = [c for c in range(1, 6) if c not in OPS[record[0] - 1].columns]
        record[unused] = 0
    return program.astype(np.int32)
