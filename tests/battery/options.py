"""Options of the commands: what does not parse, is out of range, or is misspelt."""

import pathlib

import pytest
from absl import flags

from herjax.commands import door
from herjax.commands.flags import define_flags, read_flags
from herjax.learning.config import AdaptConfig
from herjax.learning.presets import PretrainConfig
from tests.battery import Case, folder
from tests.command_line import run_quickly

AREA = "options"
BIG = "9" * 5000
ADAPT = [
    ("programs", ["0", "-1", "a", "1.5", "1,x", ",", "1,,2", "1;2", "nan", "4,4", BIG, "1" * 12]),
    ("temperatures", ["0", "-1", "nan", "inf", "a", ",", "0.5,0.5", "1e999"]),
    ("min_distinct", ["-0.1", "1.1", "nan", "a", "", "inf"]),
    ("greedy", ["maybe", "2", "no way"]),
    ("partners", ["-1", "1.5", "a", "", BIG]),
    ("keep", ["-1", "a", "1e3", str(10**10)]),
    ("rewrite", ["canonicl", "none", ""]),
    ("distinct", ["shortst", "ALL!"]),
    ("select", ["bset", "best,all"]),
    ("order", ["sortd", "0"]),
    ("fraction", ["0", "1.5", "nan", "-1"]),
    ("novelty", ["maybe"]),
    ("passes", ["0", "-1", "a"]),
    ("minibatch", ["0", "2.0", "four", str(2**63)]),
    ("fresh", ["-1", "a"]),
    ("learning_rate", ["-1", "nan", "inf", "a", ""]),
    ("clip", ["0", "-1", "nan", "a"]),
    ("symmetries", ["all"]),
    ("max_epochs", ["0", "-1", "1e3", "a", str(10**12), BIG]),
    ("max_draws", ["-1", "x", str(10**12)]),
]
PRETRAIN = [
    ("model.width", ["0", "a", "1000000", "127"]),
    ("model.layers", ["0", "1000000", "x"]),
    ("model.heads", ["0", "3", "-4"]),
    ("model.program_layers", ["0", "9"]),
    ("model.max_side", ["0", "1000000"]),
    ("model.ops", ["0", "99"]),
    ("model.dtype", ["float64", ""]),
    ("tasks.min_side", ["0", "11"]),
    ("tasks.max_side", ["0", "11"]),
    ("tasks.max_draws", ["0", "-1"]),
    ("tasks.ops", ["0", "99"]),
    ("size_limits", ["", "a", "0", "1,2,x"]),
    ("batch_size", ["0", "x", str(10**12)]),
    ("microbatch", ["-1", "7", "a"]),
    ("steps", ["0", "-1", "1e6", str(10**12)]),
    ("warmup_steps", ["0"]),
    ("muon_lr", ["0", "nan", "-1", "inf"]),
    ("adam_lr", ["0", "nan", "a"]),
    ("clip", ["0", "inf"]),
    ("seed", ["-1", str(2**31), "a"]),
    ("log_every", ["0"]),
    ("checkpoint_every", ["0"]),
    ("eval_every", ["0"]),
    ("eval_tasks", ["0"]),
    ("final_eval_tasks", ["0"]),
    ("snapshots", ["x", "1.5"]),
]
# Whole commands: slow, but for one of each kind.
COMMANDS = [
    ("her_adapt", ["--task=26-squares"], "unknown task '26-squares' (did you mean '", False),
    ("her_adapt", ["--task=chik"], "(did you mean 'chick'?)", False),
    ("her_adapt", ["--task=emojis"], "(did you mean 'emoji'?)", True),
    ("her_adapt", ["--task=rocket"], "(did you mean 'emoji:rocket'?)", True),
    ("her_adapt", ["--task=emoji:rokcet"], "no emoji 'rokcet' (did you mean 'rocket'?)", True),
    ("her_adapt", ["--task=emoji24:rocket"], "sizes are emoji, emoji16, emoji20, emoji30", True),
    ("her_adapt", ["--task=emoji:"], "no emoji ''", True),
    ("her_adapt", ["--task=emoji16:rocket", "--cell_size=2"], "--cell_size is for picture", True),
    (
        "her_adapt",
        ["--task=emoji30:rocket", "--checkpoint=base-10"],
        "rocket-30x30 of 30x30 is larger",
        True,
    ),
    ("her_adapt", ["--task="], "unknown task ''", True),
    ("her_adapt", ["--task=,"], "unknown task ''", True),
    ("her_adapt", ["--task=chick,chick,"], "unknown task ''", True),
    ("her_adapt", ["--task=all,chick"], "unknown task 'all'", True),
    ("her_adapt", ["--task=/nowhere.json"], "/nowhere.json", False),
    ("her_adapt", ["--task=/dev/zero"], "not a regular file", True),
    ("her_adapt", ["--task=/tmp/"], "is a folder", True),
    ("her_adapt", ["--task=arc1:nope"], "no task 'nope' in arc1", True),
    ("her_adapt", ["--task=arc3:007bbfb7"], "arc3:007bbfb7", True),
    ("her_adapt", ["--task=chick", "--background=3"], "--background is for picture files", True),
    ("her_adapt", ["--task=chick", "--cell_size=3"], "--cell_size is for picture files", True),
    ("her_adapt", ["--background=10", "--task=/etc/hostname"], "background must be", True),
    ("her_adapt", ["--cell_size=0"], "cell_size", False),
    ("her_adapt", ["--task=chick", "--input=task"], "for outputs in ARC tasks: chick", True),
    ("her_adapt", ["--task=chick", "--input=/nowhere.txt"], "/nowhere.txt", True),
    ("her_adapt", ["--task=chick", "--input="], "No such file", True),
    ("her_adapt", ["--checkpoint=bse"], "(did you mean 'base'?)", True),
    ("her_adapt", ["--checkpoint=/dev/null"], "is a file", True),
    ("her_adapt", ["--learner=hindsigth"], "(did you mean 'hindsight'?)", False),
    ("her_adapt", ["--select=bset"], "(did you mean 'best'?)", True),
    ("her_adapt", ["--dtype=float16"], "value should be one of", True),
    (
        "her_adapt",
        ["--max_epoch=3"],
        "unknown option --max_epoch (did you mean 'max_epochs'?)",
        False,
    ),
    ("her_adapt", ["--no_such_flag"], "unknown option --no_such_flag", True),
    ("her_adapt", ["--" + "x" * 10_000], "unknown option", True),
    ("her_adapt", ["--seed"], "seed", True),
    ("her_adapt", ["extra"], "unexpected argument 'extra'", True),
    ("her_adapt", ["--", "--seed=3"], "unexpected argument '--seed=3'", True),
    ("her_adapt", ["--seed=-1"], "seed", True),
    ("her_adapt", ["--seed=2147483647"], "seed", True),
    ("her_adapt", ["--seeds=0"], "seeds", True),
    ("her_adapt", ["--seeds=1000001"], "seeds", True),
    ("her_adapt", ["--seeds=1000000"], "GB of disk", True),
    ("her_adapt", ["--slots=-1"], "slots", True),
    ("her_adapt", ["--shorten=-1"], "shorten", True),
    ("her_adapt", ["--save_every=nan"], "--save_every must be finite, got nan", False),
    ("her_adapt", ["--save_every=inf"], "--save_every must be finite, got inf", True),
    ("her_adapt", ["--save_every=-1"], "save_every", True),
    ("her_adapt", ["--max_epochs=1000000000"], "GB of memory, there are", False),
    ("her_adapt", ["--programs=1000000000"], "GB of memory", True),
    ("her_adapt", ["--minibatch=1000000"], "GB of memory", True),
    ("her_adapt", ["--fresh=1000000"], "GB of memory", True),
    ("her_adapt", ["--max_draws=1000000"], "GB of memory", True),
    ("her_adapt", ["--mesh=data:1000"], "at most 256", True),
    ("her_adapt", ["--mesh=data:1000000"], "at most 256", False),
    ("her_adapt", ["--mesh=data:0"], "expected data:N", True),
    ("her_adapt", ["--mesh=data:" + BIG], "", True),
    ("her_adapt", ["--mesh=rows:2"], "expected data:N", True),
    ("her_adapt", ["--mesh="], "mesh '': expected data:N", True),
    ("her_adapt", ["--mesh=model:3"], "model:3 does not divide the 512 rows or columns of", False),
    ("her_adapt", ["--num_processes=0", "--distributed"], "num_processes", True),
    ("her_adapt", ["--process_id=1"], "go together, and with --distributed", True),
    ("her_adapt", ["--compilation_cache=/dev/null/x"], "/dev/null", True),
    ("her_adapt", ["--flagfile=/dev/zero"], "not a regular file", False),
    ("her_adapt", ["--flagfile=/nowhere"], "/nowhere", True),
    ("her_adapt", ["--flagfile=/tmp"], "is a folder", True),
    ("ood", ["--samples=0"], "samples", True),
    ("ood", ["--samples=1000000"], "samples", True),
    ("ood", ["--temperature=0"], "--temperature must be above 0, got 0.0", False),
    ("ood", ["--temperature=nan"], "--temperature must be finite", True),
    ("ood", ["--temperature=-1"], "--temperature must be above 0", True),
    ("ood", ["--checkpoint=nowhere"], "no model 'nowhere'", True),
    ("bench", ["--members=x"], "--members must be counts", False),
    ("bench", ["--members=0"], "--members must be counts", True),
    ("bench", ["--members=1,,2"], "--members must be counts", True),
    ("bench", ["--only=sampling,epochs"], "did you mean 'epoch'", False),
    ("bench", ["--dtype=int8"], "value should be one of", True),
    ("pretrain", ["--preset=bas"], "(did you mean 'base-", True),
    ("pretrain", ["--preset=tiny", "--init=bse"], "(did you mean 'base'?)", True),
    ("pretrain", ["--preset=tiny", "--model.widht=3"], "(did you mean 'model.width'?)", True),
    ("pretrain", ["--preset=tiny", "--batch_size=1000000000"], "GB of memory", True),
    ("pretrain", ["--model.width=16384", "--model.layers=512"], "GB of memory", True),
    ("study", ["--scale=smal"], "(did you mean 'small'?)", True),
    ("study", ["--table=nope"], "no table 'nope'", True),
]
SHOW = [
    (["--delay=inf"], "", "delay=inf: inf is not a number in the range"),
    (["--delay=nan"], "", "--delay must be finite"),
    (["--delay=-1"], "", "delay"),
    (["--size=0x3"], "", "--size is 1x1 to 32x32"),
    (["--size=33x3"], "", "--size is 1x1 to 32x32"),
    (["--size=3"], "", "--size is ROWSxCOLUMNS"),
    (["--size=3x3x3"], "", "--size is ROWSxCOLUMNS"),
    (["--size=" + BIG + "x1"], "", "--size is ROWSxCOLUMNS"),
    (["--size=-3x3"], "", "--size is ROWSxCOLUMNS"),
    (["--input=/nowhere.txt"], "", "/nowhere.txt"),
    (["--input=/dev/zero"], "", "not a regular file"),
    (["--cell_size=0"], "", "cell_size"),
    ([], "INPUT = 3\n", "does not hold a grid"),
    ([], "INPUT = [[1], [2, 3]]\n", "row 2 has 2 cells"),
    ([], "INPUT = open('x')\n", "is not a literal"),
    ([], "INPUT = " + "1+" * 40_000 + "1\n", "nested too deep"),
    ([], "INPUT = " + "[" * 150 + "]" * 150 + "\n", "colours are 0 .. 9, got [["),
    ([], "INPUT = [[" + "0," * 200 + "]]\n", "is 1x200: at most 128x128"),
    ([], "#" * 300_000, "characters, at most"),
    ([], "#" * 5_000_000, "is larger than"),
    ([], b"\xff\xfe", "is no UTF-8 text"),
]


def _one_line(text, message):
    assert message in text, text
    assert len(text.strip().splitlines()) == 1, text
    assert "Traceback" not in text
    assert len(text) < 11_000


def option(config, name, value):
    """Parsed as a command does, in this process."""

    def check():
        values = flags.FlagValues()
        define_flags(config, values=values)

        def parse():
            values(["x", f"--{name}={value}"])
            read_flags(config, values)

        with pytest.raises((flags.Error, ValueError)) as caught:
            parse()
        assert name.split(".")[-1] in str(caught.value)

    return Case(f"--{name}={value[:12]} ({len(value)})", f"{AREA}, {type(config).__name__}", check)


def command(module, arguments, message, slow):
    def check():
        with folder() as place:
            if module not in ("study",):
                arguments_ = [f"--workdir={place / 'run'}", *arguments]
            else:
                arguments_ = arguments
            code, out, err = run_quickly(module, *arguments_)
            assert code == 2, (code, out, err)
            _one_line(err, message)
            assert not (place / "run").exists()

    shown = " ".join(arguments)[:50]
    return Case(f"{module} {shown} ({len(str(arguments))})", AREA, check, slow)


def show(arguments, source, message, slow):
    def check():
        with folder() as place:
            path = place / "program.py"
            program = "def task(img):\n    return img\n"
            text = source if isinstance(source, bytes) else (source + program).encode()
            path.write_bytes(text)
            code, out, err = run_quickly("show", *arguments, path)
            assert code == 2, (code, out, err)
            _one_line(err, message)

    return Case(f"show {arguments}"[:40] + f" {source[:20]!r} {len(source)}", AREA, check, slow)


def flag_file(name, content, message):
    """What stands in a --flagfile, in this process."""

    def check():
        with folder() as place:
            (place / "flags").write_bytes(content.replace(b"HERE", bytes(place / "flags")))
            with pytest.raises((ValueError, OSError)) as caught:
                door.check_flag_files([f"--flagfile={place / 'flags'}"])
            _one_line(str(caught.value), message)

    return Case(f"flagfile: {name}", AREA, check)


def _long_chain():
    with folder() as place:
        for i in range(9):
            (place / str(i)).write_text(f"--flagfile={place / str(i + 1)}\n")
        with pytest.raises(ValueError, match="more than 5 files inside each other"):
            door.check_flag_files(["--flagfile", str(place / "0")])


CASES = [
    *(option(AdaptConfig(), name, value) for name, values in ADAPT for value in values),
    *(option(PretrainConfig(), name, value) for name, values in PRETRAIN for value in values),
    *(command(*case) for case in COMMANDS),
    *(show(*case, slow=i % 8 > 0) for i, case in enumerate(SHOW)),
    flag_file("binary", bytes(range(128, 256)), "is no text"),
    flag_file("100 kB", b"#" * 100_001, "is larger than 100 kB"),
    flag_file("itself", b"--flagfile=HERE", "more than 5 files inside each other"),
    flag_file("a device inside", b"--flagfile=/dev/zero", "is not a regular file"),
    flag_file("a folder inside", b"--flagfile=/tmp", "is a folder"),
    Case("flagfile: a chain of nine", AREA, _long_chain),
    Case(
        "this file is no program",
        AREA,
        lambda: _one_line(run_quickly("show", pathlib.Path(__file__))[2], "found 0"),
        True,
    ),
]
