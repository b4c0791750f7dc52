"""The commands, before herjax is imported: that takes seconds, in which Ctrl-C is one line, too.

A module beside herjax, as whatever is inside it comes after it.
"""

import os
import runpy
import signal


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


def stop_quietly() -> None:
    """Let Ctrl-C end the process at once, with one line and exit code 130; nothing may be lost."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as a shell asks of what is behind "&"
        signal.signal(signal.SIGINT, _stop)


def _stop(*_: object) -> None:
    # No exception: an import that is cut off may turn it into another one, or print it.
    os.write(2, b"stopped\n")
    os._exit(128 + signal.SIGINT)


def _run(module: str) -> None:
    stop_quietly()
    # As a module of its own, not imported: --help tells the flags and the docstring of __main__.
    runpy.run_module(f"herjax.commands.{module}", run_name="__main__", alter_sys=True)
