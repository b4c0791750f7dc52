"""The pages of docs/study: a table each, with its figures, out of the lines of its runs."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

import herjax
from experiments.study import figures
from experiments.study.report import CORRECT, SOLVES, Line, Origin, Shown, gather, render
from experiments.study.run import Study, decoder_of
from experiments.study.tables import Row, Table
from herjax.commands.flags import FUNCTIONS
from herjax.learning.result import Result
from herjax.viewing.plotting import animation, spread

# Of the rivals: each figure has hindsight and some others, since bands of many rows overlap.
GROUPS: dict[str, Sequence[str]] = {
    "supervised": (
        "hindsight",
        "self-training",
        "hindsight+self-training",
        "longer-dream",
        "no learning",
    ),
    "policy gradients": ("hindsight", "grpo", "rloo", "entropic", "max-at-k"),
}
PICTURE = "25-squares"  # of the ridges and the animations
FRAMES = 60


def shown(table: Table) -> Shown:
    """How a table is shown."""
    columns: tuple[str, ...] = ("distinct", "draws", "seconds", "run")
    if table.held_out:
        columns += ("held_out_before", "held_out_after")
    if table.samples:
        columns = ("mean_accuracy", "best_of_first", "accuracy", "correct_of_first")
    return Shown(
        name=table.name,
        title=table.name.replace("-", " ").capitalize(),
        question=table.question,
        rows=[row.name for row in table.rows],
        pictures=[picture for block in table.blocks for picture in block.pictures],
        baseline=table.baseline,
        columns=columns,
        cell=CORRECT if table.samples else SOLVES,
    )


def write_page(study: Study, table: Table, scale: str, folder: pathlib.Path) -> None:
    """The page of a table, NAME.md, and its figures NAME-*.svg; without runs, no figures.

    Args:
      study: whose lines.
      table: which one.
      scale: of the study.
      folder: of the page; with that of the lines its command has a --workdir.
    """
    lines, how = study.lines(table), shown(table)
    origin = Origin(
        scale=scale,
        device=", ".join(sorted({line["device"] for line in lines})) or "no device",
        commit=", ".join(sorted({line["commit"] for line in lines})) or "-",
        date=max((line["date"] for line in lines), default="-"),
        command=f"python -m experiments.study --table={table.name} --scale={scale}"
        + f" --workdir={folder}" * (folder == study.folder),
    )
    # Bands of the trials' many rows cannot be told apart.
    drawn = lines and (table.baseline or table.held_out)
    made = write_figures(lines, table, how, folder) + made_again(table, folder) if drawn else []
    text = render(lines, how, origin, made) + chosen(study, table)
    text += unfinished(len(lines), table) + check(study, table, folder) * bool(lines)
    (folder / f"{table.name}.md").write_text(text, "utf-8")


def unfinished(made: int, table: Table) -> str:
    """A warning, if runs are still to be made."""
    all_of_it = len(table.rows) * sum(len(block.pictures) * block.seeds for block in table.blocks)
    if made >= all_of_it:
        return ""
    return (
        f"\n**Unfinished: {made:,} of {all_of_it:,} runs.** Cells that are not whole hold those who"
        " ended first, which are the faster ones.\n"
    )


def check(study: Study, table: Table, folder: pathlib.Path) -> str:
    """How to see the runs behind a cell."""
    file = study.folder / f"{table.name}.jsonl"
    link = os.path.relpath(file, folder)
    return (
        f"\nThe runs: [{link}]({link}). Those of a cell:"
        f' `grep \'"row": "ROW", "picture": "PICTURE"\' {file}`.\n'
    )


def chosen(study: Study, table: Table) -> str:
    """Which learning rates the rows have from their trials."""
    rates = [
        f"{row.name} {study.chosen_rate(row):g}"
        for row in table.rows
        if row.trials and study.has_trials(row)
    ]
    return f"\nLearning rates, of trials: {', '.join(rates)}.\n" if rates else ""


def write_figures(
    lines: Sequence[Line], table: Table, how: Shown, folder: pathlib.Path
) -> list[tuple[str, str]]:
    """Share solved, and draws over epochs; -> of each what it shows, and its file."""
    groups = {"": how.rows}
    if table.baseline and set(GROUPS["supervised"]) <= set(how.rows):
        groups = GROUPS
    made = []
    for name, rows in groups.items():
        file = f"{table.name}-solved{'-' * bool(name)}{name.replace(' ', '-')}.svg"
        figures.save(figures.share_solved(lines, how, rows), folder / file)
        made.append((f"Share solved against programs sampled{', ' * bool(name)}{name}", file))
    if groups is GROUPS:
        file = f"{table.name}-draws.svg"
        rows = ("hindsight", best_rival(lines, how))
        figures.save(figures.draws_over_epochs(lines, how, rows), folder / file)
        made.append(("Mean draws of the sampled programs over epochs", file))
    return made


def made_again(table: Table, folder: pathlib.Path) -> list[tuple[str, str]]:
    """What ``--animate`` made of the table, if it did: of each what it shows, and its file."""
    films = {
        "best-1": "the run of fewest programs",
        "best-2": "the next best",
        "worst-1": "the run of most programs",
        "worst-2": "the next worst",
    }
    files = [
        (f"Best attempts of hindsight on {PICTURE}: {text}", f"{table.name}-{which}.gif")
        for which, text in films.items()
    ]
    text = f"Accuracy of every program over the epochs, {PICTURE}, seed 0"
    files.insert(0, (text, f"{table.name}-ridges.svg"))
    return [(text, file) for text, file in files if (folder / file).exists()]


def best_rival(lines: Sequence[Line], how: Shown) -> str:
    """The learner but hindsight that took the fewest programs, of all pictures alike."""
    cells = gather(lines, how)

    def cost(row: str) -> float:
        runs = [cells[row, picture] for picture in how.pictures if (row, picture) in cells]
        shares = [np.mean([run["sampled"] / run["budget"] for run in of]) for of in runs]
        return float(np.mean(shares)) if shares else np.inf

    return min((row for row in how.rows if row not in ("hindsight", "no learning")), key=cost)


# ---- Runs made again -----------------------------------------------------------------------------


def adapt_again(study: Study, table: Table, row: Row, picture: str, seed: int) -> Result:
    """A run of a table with all of its history, which its line does not hold."""
    block = next(block for block in table.blocks if picture in block.pictures)
    chosen = study.named[picture]
    return herjax.adapt(
        chosen,
        params=decoder_of(row.model),
        seed=seed,
        config=study.settled(row, block),
        learner=FUNCTIONS["learner"][row.learner],
    )


def write_ridges(study: Study, table: Table, folder: pathlib.Path) -> None:
    """Accuracies of hindsight beside the best rival, seed 0: NAME-ridges.svg."""
    how = shown(table)
    names = ("hindsight", best_rival(study.lines(table), how))
    rows = {row.name: row for row in table.rows}
    histories = [adapt_again(study, table, rows[name], PICTURE, 0).history for name in names]
    ours, rival = (np.stack([epoch.accuracy for epoch in history]) for history in histories)
    figures.save(figures.ridges(ours, rival, names), folder / f"{table.name}-ridges.svg")


def write_animations(study: Study, table: Table, folder: pathlib.Path) -> None:
    """Two runs each of hindsight with fewest and most programs: NAME-best-1.gif and so on."""
    row = next(row for row in table.rows if row.name == "hindsight")
    lines = [line for line in study.lines(table) if line["row"] == row.name]
    lines = [line for line in lines if line["picture"] == PICTURE]
    ranked = sorted(lines, key=lambda line: (line["sampled"], -line["accuracy"], line["seed"]))
    for which, some in (("best", ranked[:2]), ("worst", ranked[:-3:-1])):
        for place, line in enumerate(some, start=1):
            result = adapt_again(study, table, row, PICTURE, line["seed"])
            frames = [result.history[i] for i in spread(len(result.history), FRAMES)]
            right = [100 * float(frame.accuracy.max()) for frame in frames]
            words = [f"seed {line['seed']}\n{share:.0f} % of the pixels right" for share in right]
            pictures = [frame.best_picture for frame in frames]
            pauses = [200] * (len(frames) - 1) + [2000]
            file = folder / f"{table.name}-{which}-{place}.gif"
            animation(file, study.named[PICTURE].target, pictures, words, pauses)
