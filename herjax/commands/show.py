"""Draw a program in the terminal, step by step: python -m experiments.show PROGRAM.py

Any file with a `task` in the drawing DSL, such as the solution.py of an adaptation. It is parsed,
never executed.
"""

import ast
import re
import time

import numpy as np
from absl import flags
from rich.console import Console
from rich.text import Text

import herjax
from herjax.commands import cli
from herjax.commands.named_tasks import read_file
from herjax.decoder.embedding import MOST
from herjax.dsl.source import MAX_SOURCE, ProgramError, draw_call, parse_statements, program_calls
from herjax.runtime.files import read_bounded
from herjax.tasks.files import MAX_SIDE
from herjax.tasks.palette import terminal_grid
from herjax.tasks.task import check_grid

MOST_SIDE = MOST["max_side"]  # of INPUT: what a decoder can know

INPUT = flags.DEFINE_string(
    "input", None, "File of the input (see her_adapt --task); default INPUT of the program's file."
)
CELL_SIZE = flags.DEFINE_integer(
    "cell_size",
    None,
    "Pixels a cell, of an image. Default: 1, or what its squares have if it has more than 32.",
    lower_bound=1,
)
SIZE = flags.DEFINE_string("size", "10x10", "Of a blank input, ROWSxCOLUMNS, if there is no other.")
DELAY = flags.DEFINE_float(
    "delay", 0.0, "Seconds between two steps.", lower_bound=0, upper_bound=3600
)


def main(arguments):
    """Draw the program that the command line names."""
    if len(arguments) != 2:
        name = cli.called() or "python -m experiments.show"
        raise ValueError(f"give one program: {name} PROGRAM.py")
    source = read_source(arguments[1])
    canvas = read_input(source, arguments[1])
    program = herjax.parse_program(source, *canvas.shape)
    lines = herjax.format_program(program).splitlines()[1:-1]
    console = Console(highlight=False)
    console.print("input", terminal_grid(canvas), sep="\n")
    picture = canvas.copy()
    for step, (line, call) in enumerate(zip(lines, program_calls(program)), start=1):
        time.sleep(DELAY.value)
        draw_call(picture, call)  # in plain NumPy, which has nothing to compile
        console.print(Text(f"{step}/{len(lines)} {line.strip()}"))
        console.print(terminal_grid(picture))


def read_source(name: str) -> str:
    """The text of a program's file.

    Raises:
      ProgramError: if it is no text, or too long for a program.
    """
    try:
        return read_bounded(name, 4 * MAX_SOURCE).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProgramError(f"{name} is no UTF-8 text: {error.reason}") from None


def read_input(source: str, name: str) -> np.ndarray:
    """The canvas to draw on, int8 [R, C]: of --input, of the program's file, or blank.

    Raises:
      ValueError: if it is none.
    """
    if INPUT.value:
        return read_file(INPUT.value, None, CELL_SIZE.value, MAX_SIDE).target
    for node in parse_statements(source):
        first = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(node, ast.Assign) and isinstance(first, ast.Name) and first.id == "INPUT":
            return _literal_grid(node.value, f"INPUT of {name}")
    given = SIZE.value[:40]
    if not re.fullmatch(r"[0-9]{1,4}x[0-9]{1,4}", SIZE.value):
        raise ValueError(f"--size is ROWSxCOLUMNS, such as 10x10; got {given!r}")
    rows, cols = (int(side) for side in SIZE.value.split("x"))
    if not (1 <= rows <= MAX_SIDE and 1 <= cols <= MAX_SIDE):
        raise ValueError(f"--size is 1x1 to {MAX_SIDE}x{MAX_SIDE}, got {given!r}")
    return np.zeros((rows, cols), np.int8)


def _literal_grid(node: ast.expr, name: str) -> np.ndarray:
    try:
        grid = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{name} is not a literal: rows of colours such as [[0, 1]]") from None
    canvas = check_grid(grid, name)
    if max(canvas.shape) > MOST_SIDE:
        raise ValueError(
            f"{name} is {canvas.shape[0]}x{canvas.shape[1]}: at most {MOST_SIDE}x{MOST_SIDE}"
        )
    return canvas


if __name__ == "__main__":
    cli.run(main, positional=True)
