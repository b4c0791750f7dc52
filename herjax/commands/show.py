"""Draw a program in the terminal, step by step: python -m experiments.show PROGRAM.py

Any file with a `task` in the drawing DSL, such as the solution.py of an adaptation. It is parsed,
never executed.
"""

import ast
import pathlib
import time

import numpy as np
from absl import flags
from rich.console import Console
from rich.text import Text

import herjax
from herjax.commands import cli
from herjax.dsl.source import draw_call, program_calls
from herjax.tasks.files import MAX_SIDE
from herjax.tasks.palette import terminal_grid
from herjax.tasks.task import check_grid

INPUT = flags.DEFINE_string(
    "input", None, "File of the input (see her_adapt --task); default INPUT of the program's file."
)
SIZE = flags.DEFINE_string("size", "10x10", "Of a blank input, ROWSxCOLUMNS, if there is no other.")
DELAY = flags.DEFINE_float("delay", 0.0, "Seconds between two steps.", lower_bound=0)


def main(arguments):
    """Draw the program that the command line names."""
    if len(arguments) != 2:
        raise ValueError("give one program: python -m experiments.show PROGRAM.py")
    source = pathlib.Path(arguments[1]).read_text()
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


def read_input(source: str, name: str) -> np.ndarray:
    """The canvas to draw on, int8 [R, C]: of --input, of the program's file, or blank.

    Raises:
      ValueError: if it is none.
    """
    if INPUT.value:
        return herjax.load_picture(INPUT.value).target
    for node in _statements(source):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "INPUT":
            return _literal_grid(node.value, f"INPUT of {name}")
    try:
        rows, cols = (int(side) for side in SIZE.value.split("x"))
    except ValueError:
        raise ValueError(f"--size is ROWSxCOLUMNS, such as 10x10; got {SIZE.value!r}") from None
    if not (1 <= rows <= MAX_SIDE and 1 <= cols <= MAX_SIDE):
        raise ValueError(f"--size is 1x1 to {MAX_SIDE}x{MAX_SIDE}, got {SIZE.value!r}")
    return np.zeros((rows, cols), np.int8)


def _literal_grid(node: ast.expr, name: str) -> np.ndarray:
    try:
        grid = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{name} is not a literal: rows of colours such as [[0, 1]]") from None
    return check_grid(grid, name)


def _statements(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError):
        return []  # parse_program says what is wrong


if __name__ == "__main__":
    cli.run(main, positional=True)
