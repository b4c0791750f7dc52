"""The pictures that --task and --input name: of the suite, of sets, of the user's files."""

import pathlib
import re
from collections.abc import Iterable
from functools import partial

from herjax.commands import cli
from herjax.commands.door import tell
from herjax.runtime import processes
from herjax.runtime.config import did_you_mean, told
from herjax.tasks.files import (
    BLANK,
    FORMATS,
    OF_TASK,
    arc_edits,
    arc_pictures,
    is_picture_file,
    large_arc_pictures,
    over,
    over_blank,
    read_picture,
)
from herjax.tasks.suite import (
    EMOJI_SIDES,
    Picture,
    emoji_grids,
    emoji_picture,
    emoji_pictures,
    is_emoji,
    pictures,
    tuning_pictures,
)
from herjax.tasks.task import check_size

TASK_SETS = {
    "tuning": tuning_pictures,
    "arc200": arc_pictures,
    "arc-large": large_arc_pictures,
    "arc-edits": arc_edits,
    "emoji": emoji_pictures,
}
TASK_SETS |= {f"emoji{side}": partial(emoji_pictures, side) for side in EMOJI_SIDES}


def chosen_tasks(
    names: str,
    max_side: int,
    background: int | None = None,
    cell_size: int | None = None,
    input: str | None = None,
) -> dict[str, Picture]:
    """The pictures that --task names, among them TASK_SETS; ``all`` leaves out too large ones.

    The user's own (see ``load_picture``) get names that do as folders.

    Raises:
      ValueError: if a name is unknown, or its picture larger than the model's canvas; if there is
        a background or a size of cells for tasks that have their own, or an input of another shape.
    """
    suite = pictures()
    if not any(map(is_picture_file, names.split(","))):
        for option, given in (("background", background), ("cell_size", cell_size)):
            if given is not None:
                raise ValueError(f"--{option} is for picture files: {names[:100]} is none")
    if names == "arc-edits" and input == OF_TASK:
        input = None  # as they are
    if names == "all":
        fits = {n: p for n, p in suite.items() if max(p.target.shape) <= max_side}
        if left_out := [name for name in suite if name not in fits]:
            cli.say(
                f"left out, larger than the model's {max_side}x{max_side}: {', '.join(left_out)}"
            )
        return fits
    parts = [] if names in TASK_SETS else names.split(",")
    single = dict.fromkeys(name for part in parts for name in (files_of(part) or [part]))
    chosen = TASK_SETS[names]() if names in TASK_SETS else {}
    chosen = {name: on_input(picture, name, input, max_side) for name, picture in chosen.items()}
    for name in single:
        if name in suite:
            folder, picture = name, on_input(suite[name], name, input, max_side)
        elif is_emoji(name):
            folder, picture = emoji_picture(name)
            picture = on_input(picture, name, input, max_side)
        elif is_picture_file(name):
            picture = read_file(name, background, cell_size, max_side, input or BLANK)
            folder = re.sub(r"[^\w.-]+", "-", name.split("/")[-1]) if name != "-" else "stdin"
        else:
            raise ValueError(unknown(name, suite))
        # Many file systems do not tell capitals from small letters.
        if same := [other for other in chosen if other.casefold() == folder.casefold()]:
            names = f"{same[0]} and {folder}" if same[0] != folder else folder
            raise ValueError(f"two tasks are called {names}: run them apart")
        chosen[folder] = picture
    for name, picture in chosen.items():
        check_size(picture.target.shape, max_side, f"task {name}")
    return chosen


def unknown(name: str, suite: Iterable[str]) -> str:
    """What to tell of a name that is no task."""
    single_emoji = [f"emoji:{short}" for short in emoji_grids()]
    near = did_you_mean(name, [*suite, *TASK_SETS, "all", *single_emoji])
    if name and pathlib.Path(name).is_dir():
        near = f" (the folder is {name}/)"
    return (
        f"unknown task {told(name)}{near}; one of {', '.join(suite)}, all,"
        f" {', '.join(TASK_SETS)}, or a file"
    )


def files_of(name: str) -> list[str]:
    """The pictures in a folder, by name; none if it is no folder.

    Raises:
      ValueError: if the folder has none.
    """
    folder = pathlib.Path(name)
    if not (is_picture_file(name) and folder.is_dir()):
        return []
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    found = sorted(str(path) for path in visible if path.suffix.lower() in FORMATS)
    if not found:
        raise ValueError(f"{name} is a folder without pictures ({', '.join(FORMATS)})")
    return found


def on_input(picture: Picture, name: str, input: str | None, max_side: int) -> Picture:
    """A named picture on the input that --input names, if any.

    Raises:
      ValueError: if it has none of its own, or the input has another shape.
    """
    if input is None:
        return picture
    if input == OF_TASK:
        raise ValueError(f"--input={OF_TASK} is for outputs in ARC tasks: {name} is none")
    if input == BLANK:
        return over_blank(picture.target)
    return over(picture.target, read_file(input, None, None, max_side).target, input)


def read_file(
    path: str, background: int | None, cell_size: int | None, max_side: int, input: str = BLANK
) -> Picture:
    """As ``load_picture``; what was lost of an image is one line on standard error."""
    picture, lost = read_picture(
        path, background=background, cell_size=cell_size, max_side=max_side, input=input
    )
    if lost and processes.is_first():
        tell("note", lost)
    return picture
