"""The DSL again, in NumPy and scikit-image. Never imports herjax."""

import numpy as np
import skimage.draw

LINE, RECTANGLE, ROW, COLUMN, PIXEL = range(1, 6)


def cells(record, shape):
    """Boolean mask of the cells a record paints."""
    op, _, r1, c1, r2, c2 = (int(v) for v in record)
    mask = np.zeros(shape, bool)
    if op == LINE:
        mask[skimage.draw.line(r1, c1, r2, c2)] = True
    elif op == RECTANGLE:
        mask[skimage.draw.rectangle((r1, c1), end=(r2, c2))] = True
    elif op == ROW:
        mask[r1] = True
    elif op == COLUMN:
        mask[:, c1] = True
    elif op == PIXEL:
        mask[r1, c1] = True
    return mask


def execute(program, canvas):
    """Paint in order, one draw after the other."""
    canvas = np.array(canvas)
    for record in program:
        canvas[cells(record, canvas.shape)] = record[1]
    return canvas


def random_program(rng, draws, height, width):
    """Uniform ops and parameters inside the canvas; unused fields 0."""
    program = np.zeros((draws, 6), np.int32)
    for record in program:
        op = rng.integers(1, 6)
        r1, r2 = rng.integers(height, size=2)
        c1, c2 = rng.integers(width, size=2)
        fields = {
            LINE: (r1, c1, r2, c2),
            RECTANGLE: (r1, c1, r2, c2),
            ROW: (r1, 0, 0, 0),
            COLUMN: (0, c1, 0, 0),
            PIXEL: (r1, c1, 0, 0),
        }
        record[:] = (op, rng.integers(10), *fields[op])
    return program
