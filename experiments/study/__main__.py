"""All tables of the study: python -m experiments.study --table=rivals --scale=small

Runs that are there already are not made again: stopped or killed, the same command continues.
"""

import pathlib

import jax
from absl import flags

from experiments.study.run import Study
from experiments.study.tables import SCALES, Table, tables
from herjax.commands import cli
from herjax.runtime.config import did_you_mean
from herjax.runtime.lock import Lock
from herjax.runtime.machine import processors

TABLE = flags.DEFINE_string("table", "all", "With commas: names of tables; or all.")
SCALE = flags.DEFINE_enum(
    "scale", "small", SCALES, "small: hours on two cores. full: what a GPU is for."
)
WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of lines, one a run, and of pages; default docs/study/SCALE, pages in docs/study.",
)
RENDER_ONLY = flags.DEFINE_bool("render_only", False, "Make no runs: only the pages.")
AGAIN = flags.DEFINE_bool(
    "animate", False, "Make some runs again, for ridges and animations of tables with rivals."
)
LIST = flags.DEFINE_bool("list_tables", False, "Print all tables, and leave.")
flags.adopt_module_key_flags(cli)  # into --help


def main(_):
    """Make and render the tables that the flags name."""
    known = tables(SCALE.value)
    if LIST.value:
        for table in known.values():
            print(f"{table.name}  {table.question}")
        return
    names = list(known) if TABLE.value == "all" else TABLE.value.split(",")
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            raise ValueError(f"no table {name!r}: choose from {', '.join(known)}, or all{near}")
    cli.use_devices(cpu_devices=processors())
    jax.config.update("jax_enable_compilation_cache", False)  # each program runs once
    published = pathlib.Path("docs/study")
    study = Study(pathlib.Path(WORKDIR.value or published / SCALE.value), cli.say)
    with Lock(study.folder) as lock:
        if not RENDER_ONLY.value:
            lock.acquire()
        for name in names:
            make_table(study, known[name], study.folder if WORKDIR.value else published)


def make_table(study: Study, table: Table, folder: pathlib.Path) -> None:
    """Make the runs of a table, and its page in a folder, as the flags say."""
    try:
        from experiments.study import pages
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ValueError("the study needs Matplotlib: pip install 'herjax[study]'") from None
    if not RENDER_ONLY.value:
        study.make(table)
    if AGAIN.value and table.baseline == "hindsight":
        pages.write_ridges(study, table, folder)
        pages.write_animations(study, table, folder)
    pages.write_page(study, table, SCALE.value, folder)
    cli.say(f"{table.name}: {len(study.lines(table))} runs, in {folder / table.name}.md")


if __name__ == "__main__":
    cli.run(main)
