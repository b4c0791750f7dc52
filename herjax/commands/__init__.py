"""The command lines, as console scripts and ``python -m experiments...``. Imports all wings.

``import herjax`` does not load them.
"""

import runpy


def adapt() -> None:
    """herjax-adapt, which is python -m experiments.her_adapt."""
    _run("her_adapt")


def pretrain() -> None:
    """herjax-pretrain, which is python -m experiments.pretrain."""
    _run("pretrain")


def plan() -> None:
    """herjax-plan, which is python -m experiments.plan."""
    _run("plan")


def show() -> None:
    """herjax-show, which is python -m experiments.show."""
    _run("show")


def _run(module: str) -> None:
    # As a module of its own, not imported: --help tells the flags and the docstring of __main__.
    runpy.run_module(f"herjax.commands.{module}", run_name="__main__", alter_sys=True)
