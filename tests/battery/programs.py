"""Source that is no drawing program, or would take long to find it out."""

import tempfile

import numpy as np

import herjax
from herjax.dsl.source import MAX_SOURCE
from tests.battery import Case
from tests.battery.door import refused, same

AREA = "programs"
N = MAX_SOURCE - 200


def task(*lines):
    return "\n".join(["def task(img):", *("    " + line for line in lines), "    return img"])


def pixel(point="(0, 0)", colour="1"):
    return task(f"draw_pixel(img, point={point}, color={colour})")


BAD = [
    ("nothing", "", "expected one function `task`, found 0"),
    ("blanks", " \n ", "found 0"),
    ("another function", "def tusk(img):\n    return img", "found 0"),
    ("two functions", task() + "\n" + task(), "found 2"),
    ("a method", "class A:\n  def task(self):\n    return self", "found 0"),
    ("a coroutine", "async " + task(), "found 0"),
    ("a lambda", "task = lambda img: img", "found 0"),
    ("inside an if", "if 1:\n  def task(img):\n    return img", "found 0"),
    ("no argument", "def task():\n    return img", "one argument"),
    ("two arguments", "def task(a, img):\n    return img", "one argument"),
    ("positional and another", "def task(a, /, img):\n    return img", "one argument"),
    ("positional alone", "def task(img, /):\n    return img", "one argument"),
    ("keyword alone", "def task(*, img):\n    return img", "one argument"),
    ("many arguments", "def task(*img):\n    return img", "one argument"),
    ("keywords", "def task(**img):\n    return img", "one argument"),
    ("a default", "def task(img=None):\n    return img", "one argument"),
    ("a decorator", "@cache\n" + task(), "no decorators"),
    ("no return", "def task(img):\n    pass", "must end with `return img`"),
    ("an empty return", "def task(img):\n    return", "must end with `return img`"),
    ("returns another", "def task(img):\n    return other", "must end with `return img`"),
    ("returns a call", "def task(img):\n    return draw_pixel(img, (0, 0), 1)", "must end"),
    ("returns early", task("return img"), "expected a drawing call"),
    ("a docstring alone", 'def task(img):\n    """Draws."""', "must end"),
    ("a second docstring", task('"a"', '"b"'), "expected a drawing call"),
    ("an import", task("import os"), "expected a drawing call, got `import os`"),
    ("a loop", task("for i in (1,):", "    draw_pixel(img, (i, 0), 1)"), "line 2"),
    ("a loop without end", task("while True:", "    pass"), "line 2"),
    ("a condition", task("if True: draw_pixel(img, (0, 0), 1)"), "line 2"),
    ("with", task("with open('x') as f: pass"), "line 2"),
    ("try", task("try: pass", "finally: pass"), "line 2"),
    ("an assertion", task("assert img"), "expected a drawing call"),
    ("a deletion", task("del img"), "expected a drawing call"),
    ("global", task("global img"), "expected a drawing call"),
    ("an index", task("img[0, 0] = 1"), "expected a drawing call"),
    ("added to", task("img += 1"), "expected a drawing call"),
    ("an annotation", task("img: int = draw_pixel(img, (0, 0), 1)"), "expected a drawing call"),
    ("two targets", task("a = img = draw_pixel(img, (0, 0), 1)"), "expected a drawing call"),
    ("another target", task("x = draw_pixel(img, (0, 0), 1)"), "expected a drawing call"),
    ("a walrus", task("(img := draw_pixel(img, (0, 0), 1))"), "expected a drawing call"),
    ("a method call", task("np.draw_pixel(img, (0, 0), 1)"), "expected a drawing call"),
    ("a call of a call", task("draw_pixel(img)(img)"), "expected a drawing call"),
    ("a call of an index", task("draw[0](img)"), "expected a drawing call"),
    ("await", "async def f():\n  pass\n" + task("await draw_pixel(img)"), "expected a drawing"),
    ("exec", task("exec('1')"), "unknown call 'exec'"),
    ("__import__", task("__import__('os').system('true')"), "expected a drawing call"),
    ("a misspelt call", task("draw_pixl(img, (0, 0), 1)"), "(did you mean 'draw_pixel'?)"),
    ("a call in capitals", task("Draw_pixel(img, (0, 0), 1)"), "(did you mean 'draw_pixel'?)"),
    ("a long name", task("a" * N + "(img)"), "unknown call"),
    ("another canvas", task("draw_pixel(image, (0, 0), 1)"), "must be `img`"),
    ("no canvas", task("draw_pixel()"), "must be `img`"),
    ("the canvas by name", task("draw_pixel(img=img, point=(0, 0), color=1)"), "must be `img`"),
    ("a star", task("draw_pixel(*img)"), "must be `img`"),
    ("a star of arguments", task("draw_pixel(img, *[(0, 0), 1])"), ""),
    ("stars", task("draw_pixel(img, **{})"), "takes (img, point, color)"),
    ("too few", task("draw_pixel(img, (0, 0))"), "takes (img, point, color)"),
    ("too many", task("draw_pixel(img, (0, 0), 1, 2)"), "takes (img, point, color)"),
    ("said twice", task("draw_pixel(img, (0, 0), point=(0, 0))"), "takes (img, point, color)"),
    ("an unknown keyword", task("draw_pixel(img, (0, 0), colour=1)"), "takes (img, point, color)"),
    ("a keyword twice", task("draw_pixel(img, color=1, color=1, point=(0, 0))"), ""),
    ("a colour of 10", pixel(colour="10"), "color = 10 is out of range, allowed 0 .. 9"),
    ("a colour of -1", pixel(colour="-1"), "color = -1 is out of range"),
    ("a colour of 256", pixel(colour="256"), "color = 256"),
    ("a colour of 1.0", pixel(colour="1.0"), "color must be an integer, got `1.0`"),
    ("a colour of True", pixel(colour="True"), "color must be an integer, got `True`"),
    ("a colour of None", pixel(colour="None"), "color must be an integer"),
    ("a colour in words", pixel(colour="'red'"), "color must be an integer, got `'red'`"),
    ("a colour of bytes", pixel(colour="b'1'"), "color must be an integer"),
    ("an imaginary colour", pixel(colour="1j"), "color must be an integer"),
    ("a sum", pixel(colour="1+1"), "color must be an integer, got `1 + 1`"),
    ("a name", pixel(colour="RED"), "color must be an integer, got `RED`"),
    ("a call for a colour", pixel(colour="exit()"), "got `exit()`"),
    ("a set", pixel("{0, 1}"), "a pair of integers"),
    ("a dict", pixel("{0: 1}"), "a pair of integers"),
    ("an unhashable set", pixel("{[]}"), "a pair of integers"),
    ("one coordinate", pixel("(0,)"), "a pair of integers"),
    ("three coordinates", pixel("(0, 0, 0)"), "a pair of integers"),
    ("no coordinates", pixel("()"), "a pair of integers"),
    ("a pair inside", pixel("((0, 0), 0)"), "a pair of integers"),
    ("a generator", pixel("(i for i in (0, 0))"), "a pair of integers"),
    ("a list built", pixel("[i for i in range(2)]"), "a pair of integers"),
    ("a string of two", pixel("'00'"), "a pair of integers"),
    ("a row of -1", pixel("(-1, 0)"), "point = -1 is out of range"),
    ("65536, which wraps to 0", pixel("(65536, 65537)"), "point = 65536 is out of range"),
    ("2**31", pixel(f"({2**31}, 0)"), "out of range"),
    ("2**63", pixel(f"(0, {2**63})"), "out of range"),
    ("a hundred digits", pixel(f"(0, {'9' * 100})"), "out of range"),
    ("5,000 digits", pixel(f"(0, {'9' * 5000})"), "not Python"),
    ("a hex literal of 10^5 digits", pixel(f"(0, 0x{'f' * N})"), "out of range"),
    ("an octal literal of 10^5 digits", pixel(f"(0, 0o{'7' * N})"), "out of range"),
    ("minus a hex literal", pixel(f"(0, -0x{'f' * N})"), "out of range"),
    ("a colour of 10^5 digits", pixel(colour="0x" + "f" * N), "out of range"),
    ("sums nested", "x = " + "1+" * (N // 2) + "1", "line 1"),
    ("minuses nested", "x = " + "-" * N + "1", "nested too deep"),
    ("nots nested", "x = " + "not " * (N // 4) + "1", "nested too deep"),
    ("attributes nested", "x = a" + ".b" * (N // 2), "nested too deep"),
    ("indices nested", "x = a" + "[0]" * (N // 3), "nested too deep"),
    ("calls nested", "x = f" + "()" * (N // 2), "nested too deep"),
    ("lambdas nested", "x = " + "lambda:" * (N // 7) + "1", "nested too deep"),
    ("parentheses nested", "(" * N, "line 1: not Python"),
    ("closed parentheses nested", "x = " + "(" * 190 + "1" + ")" * 190, "found 0"),
    ("brackets nested", "[" * N, "line 1: not Python"),
    ("braces nested", "{" * N, "line 1: not Python"),
    ("powers nested", "x = " + "1**" * (N // 3) + "1", "nested too deep"),
    ("conditions nested", "x = " + "1 if 1 else " * (N // 12) + "1", "nested too deep"),
    ("elifs nested", "if 1:\n pass\nel" * (N // 14) + "se:\n pass", "line"),
    ("blocks nested", "".join(" " * i + "if 1:\n" for i in range(200)), "line"),
    ("a colour of nested sums", pixel(colour="1+" * 900 + "1"), "line 2"),
    ("a colour of nested minuses", pixel(colour="-" * 600 + "1"), "line"),
    ("lines without end", "1\n" * (N // 2), "found 0"),
    ("a million lines", lambda: "pass\n" * 10**6, "characters, at most 100,000"),
    ("100 MB", lambda: "#" * 10**8, "100,000,000 characters, at most 100,000"),
    ("passes without end", task(*["pass"] * (N // 10)), "line 2: expected a drawing call"),
    ("strings without end", "x=" + "''" * (N // 2), "line 1"),
    ("a null character", task() + "\0", "not Python"),
    ("a lone surrogate", "\ud800", "not Python"),
    ("a non-breaking space", "def\u00a0task(img):\n    return img", "not Python"),
    ("a form feed", "\f" + "def task(img)\f:", "line 1"),
    ("tabs and blanks", "def task(img):\n\tpass\n        return img", "line"),
    ("no indentation", "def task(img):\nreturn img", "line 2: not Python"),
    ("an unclosed string", "x = '", "line 1: not Python"),
    ("Python 2", "print 'x'", "line 1: not Python"),
    ("a bad escape", task("'\\d'", "pass"), "line 3"),
    ("is with a literal", task("1 is 1"), "expected a drawing call"),
    ("binary", "".join(map(chr, range(256))), "line"),
]
TYPES = [("None", None), ("bytes", b"x"), ("a number", 3), ("a list", ["x"]), ("a path", "".join)]
SIDES = [0, -1, 2**15, 2.0, "5", True, np.float32(3)]
GOOD = [
    ("no draws", task(), np.zeros((0, 6))),
    ("a byte of each", pixel("(99, 99)", "9"), [[5, 9, 99, 99, 0, 0]]),
    ("a hex literal", pixel("(0x1, 0b1)", "0o7"), [[5, 7, 1, 1, 0, 0]]),
    ("an underscore", pixel("(1_0, 0)"), [[5, 1, 10, 0, 0, 0]]),
    ("a list for a pair", pixel("[1, 2]"), [[5, 1, 1, 2, 0, 0]]),
    ("a comment", task("draw_pixel(img, (0, 0), 1)  # red"), [[5, 1, 0, 0, 0, 0]]),
    ("code around it that would fail", "1 / 0\n" + pixel(), [[5, 1, 0, 0, 0, 0]]),
    ("an annotated function", "def task(img: int) -> int:\n    return img", np.zeros((0, 6))),
    ("a plus sign", pixel("(+1, 0)"), [[5, 1, 1, 0, 0, 0]]),
]


def bad(name, source, message):
    def check():
        text = source() if callable(source) else source
        refused(lambda: herjax.parse_program(text), message, herjax.ProgramError)

    return Case(name, AREA, check)


def _side(name, value):
    call = lambda: herjax.parse_program(task(), **{name: value})  # noqa: E731
    return Case(f"{name}={value!r}", AREA, lambda: refused(call, f"{name} must be"))


def _not_run():
    with tempfile.TemporaryDirectory() as folder:
        source = f"open({folder + '/made'!r}, 'w')\n" + pixel("(open('x'), 0)")
        refused(lambda: herjax.parse_program(source), "a pair", herjax.ProgramError)
        assert not __import__("os").listdir(folder)


CASES = [
    *(bad(*case) for case in BAD),
    *(bad(f"source is {name}", value, "source must be a string") for name, value in TYPES[:4]),
    *(_side(name, value) for name in ("height", "width") for value in SIDES),
    *(
        Case(
            f"sound: {name}",
            AREA,
            lambda s=source, e=expected: same(lambda: herjax.parse_program(s), e),
        )
        for name, source, expected in GOOD
    ),
    Case("source is never run", AREA, _not_run),
]
