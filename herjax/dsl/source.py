"""Programs as Python source, in and out. Source is parsed, never executed.

def task(img):
    draw_rectangle(img, point1=(0, 0), point2=(1, 1), color=3)
    return img
"""

import ast
import difflib
import pathlib
import reprlib
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from herjax.dsl import drawing
from herjax.dsl.ops import (
    ARGUMENT_COLUMNS,
    COLOUR,
    COLOURS,
    END,
    OP,
    OPS,
    RECORD_SIZE,
    check_shape,
)

MAX_SOURCE = 100_000  # characters: more than a thousand calls; Python takes 80 MB to parse them
MAX_COORDINATE = 99  # where no canvas is given: on any, no line of such points overflows 16 bits
_ROW_COLUMNS = (2, 4)  # record columns bounded by the height; the other coordinates by the width


class ProgramError(ValueError):
    """Source that is not a drawing program; names the line and the value."""


class Call(NamedTuple):
    """One call of a function of ``drawing.py``."""

    name: str
    arguments: dict[str, int | tuple[int, ...]]  # by keyword, without the image


def program_calls(program: ArrayLike) -> list[Call]:
    """The calls that records [N, 6] stand for, in painting order, without empty records.

    Raises:
      ValueError: for other shapes or types, an op or a colour that there is none of, or points
        below 0.
    """
    check_shape(program)
    calls = []
    for record in np.asarray(program):
        if record[OP] == END:
            continue
        if not 0 < record[OP] <= len(OPS):
            raise ValueError(f"program: ops are {END} .. {len(OPS)}, got {record[OP]}")
        if min(record) < 0 or record[COLOUR] >= COLOURS:
            raise ValueError(f"program: no draw is {record.tolist()}")
        op, arguments = OPS[record[OP] - 1], {}
        for name in op.arguments:
            values = tuple(int(record[column]) for column in ARGUMENT_COLUMNS[name])
            arguments[name] = values[0] if len(values) == 1 else values
        calls.append(Call(op.name, arguments))
    return calls


def draw_call(picture: np.ndarray, call: Call) -> None:
    """Paint one call on a picture [R, C] in place, in plain NumPy."""
    getattr(drawing, call.name)(picture, **call.arguments)


def format_program(program: ArrayLike) -> str:
    """Records [N, 6] -> ``def task(img): ...``, one call a line, in painting order.

    Raises:
      ValueError: unless it is records of draws.
    """
    lines = ["def task(img):"]
    for name, arguments in program_calls(program):
        written = ", ".join(f"{argument}={value}" for argument, value in arguments.items())
        lines.append(f"    {name}(img, {written})")
    return "\n".join([*lines, "    return img"]) + "\n"


def parse_program(source: str, height: int | None = None, width: int | None = None) -> np.ndarray:
    """Python source -> records int32 [N, 6], one for each call.

    The source holds one function ``task`` of one argument, whose body is drawing calls (with
    keywords, or positional in the documented order; bare or assigned back to the argument) and
    returns the argument. A docstring, and anything around the function, is ignored.

    Args:
      source: the text.
      height: of the canvas, cells; None accepts coordinates up to MAX_COORDINATE.
      width: likewise.

    Raises:
      ProgramError: with line and value, for anything else, a value out of range, or source of more
        than 100,000 characters.
      ValueError: unless height and width are None or positive integers.
    """
    for name, side in (("height", height), ("width", width)):
        whole = isinstance(side, int | np.integer) and not isinstance(side, bool)
        if side is not None and not (whole and 1 <= side < 2**15):
            told = reprlib.repr(side)
            raise ValueError(f"{name} must be 1 .. {2**15 - 1} or None, got {told}")
    function = _task_function(parse_statements(source))
    canvas = function.args.args[0].arg
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]  # a docstring
    last = body[-1] if body else function
    if not (isinstance(last, ast.Return) and _is_name(last.value, canvas)):
        raise ProgramError(f"line {last.lineno}: `task` must end with `return {canvas}`")
    limits = tuple(MAX_COORDINATE + 1 if side is None else side for side in (height, width))
    records = [_parse_call(statement, canvas, limits) for statement in body[:-1]]
    return np.array(records, np.int32).reshape(-1, RECORD_SIZE)


def parse_statements(source: str) -> list[ast.stmt]:
    """The statements of Python source, of at most 100,000 characters.

    Raises:
      ProgramError: if it is none, is too long or nested too deep.
    """
    if not isinstance(source, str):
        raise ProgramError(f"line 1: source must be a string, got {type(source).__name__}")
    if len(source) > MAX_SOURCE:
        raise ProgramError(f"line 1: {len(source):,} characters, at most {MAX_SOURCE:,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python about the source, which is never run
            return ast.parse(source).body
    except (RecursionError, MemoryError):
        raise ProgramError("line 1: not Python: nested too deep") from None
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        what = getattr(error, "msg", error)  # without the name of a file
        raise ProgramError(f"line {line}: not Python: {what}") from None


def _task_function(statements: list[ast.stmt]) -> ast.FunctionDef:
    """The one function ``task``, of one argument."""
    functions = [n for n in statements if isinstance(n, ast.FunctionDef) and n.name == "task"]
    if len(functions) != 1:
        raise ProgramError(f"line 1: expected one function `task`, found {len(functions)}")
    function, given = functions[0], functions[0].args
    others = given.posonlyargs or given.vararg or given.kwonlyargs or given.kwarg or given.defaults
    if len(given.args) != 1 or others:
        raise ProgramError(f"line {function.lineno}: `task` must take one argument, the image")
    if function.decorator_list:
        raise ProgramError(f"line {function.lineno}: `task` must have no decorators")
    return function


def _quote(node: ast.AST) -> str:
    """The source of a node, for a message: its first line, shortened."""
    try:
        text = ast.unparse(node)
    except RecursionError:
        return "an expression nested too deep"
    except ValueError:  # an integer of too many digits, an f-string with a backslash
        return "an expression that cannot be written out"
    line = text.splitlines()[0]
    return f"`{line[:77]}...`" if len(line) > 80 else f"`{line}`"


def _is_name(node: ast.AST | None, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _parse_call(statement: ast.stmt, canvas: str, limits: tuple[int, ...]) -> list[int]:
    where = f"line {statement.lineno}"
    call = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
    if isinstance(statement, ast.Assign) and not (
        len(statement.targets) == 1 and _is_name(statement.targets[0], canvas)
    ):
        call = None
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        raise ProgramError(f"{where}: expected a drawing call, got {_quote(statement)}")
    by_name = {op.name: i for i, op in enumerate(OPS, start=1)}
    if call.func.id not in by_name:
        near = difflib.get_close_matches(call.func.id[:100], by_name, n=1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        told, known = reprlib.repr(call.func.id), ", ".join(by_name)
        raise ProgramError(f"{where}: unknown call {told}{meant}; one of {known}")
    op = OPS[by_name[call.func.id] - 1]
    if not call.args or not _is_name(call.args[0], canvas):
        raise ProgramError(f"{where}: the first argument of {op.name} must be `{canvas}`")
    given = dict(zip(op.arguments, call.args[1:]))
    keywords = {str(keyword.arg): keyword.value for keyword in call.keywords}
    names = [*given, *(keyword.arg for keyword in call.keywords)]
    if len(call.args) - 1 > len(op.arguments) or sorted(map(str, names)) != sorted(op.arguments):
        raise ProgramError(
            f"{where}: {op.name} takes (img, {', '.join(op.arguments)}), got {_quote(call)}"
        )
    record = [0] * RECORD_SIZE
    record[OP] = by_name[op.name]
    for name, node in {**given, **keywords}.items():
        for column, value in zip(ARGUMENT_COLUMNS[name], _integers(where, name, node)):
            limit = COLOURS if column == COLOUR else limits[column not in _ROW_COLUMNS]
            if not 0 <= value < limit:
                raise ProgramError(
                    f"{where}: {name} = {value} is out of range, allowed 0 .. {limit - 1}"
                )
            record[column] = value
    return record


def _integers(where: str, name: str, node: ast.expr) -> list[int]:
    """The literal integer, or pair of them, that an argument needs."""
    count = len(ARGUMENT_COLUMNS[name])
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        value = None
    values = [value] if count == 1 else value
    if not (
        isinstance(values, list | tuple)
        and len(values) == count
        and all(type(v) is int for v in values)
    ):
        expected = "an integer" if count == 1 else "a pair of integers"
        raise ProgramError(f"{where}: {name} must be {expected}, got {_quote(node)}")
    if any(abs(v) >= 2**31 for v in values):
        raise ProgramError(f"{where}: {name} = {_quote(node)} is out of range")
    return list(values)


def format_script(program: ArrayLike, canvas: ArrayLike) -> str:
    """A program as a file that runs by itself and prints the picture that it paints over a canvas.

    The file needs NumPy and scikit-image alone.
    """
    calls = pathlib.Path(drawing.__file__).read_text("utf-8")
    calls = calls.replace("import skimage", "import numpy as np\nimport skimage", 1)
    rows = ",\n    ".join(str([int(cell) for cell in row]) for row in np.asarray(canvas))
    return (
        f"{calls}\n\n{format_program(program)}\n\n"
        f"INPUT = [\n    {rows},\n]\n\n"
        'if __name__ == "__main__":\n'
        "    for row in task(np.array(INPUT)):\n"
        '        print("".join(map(str, row)))\n'
    )
