"""Where the commands print: what to do when nobody reads it any more."""

import os
import sys

from rich.console import Console


class Terminal(Console):
    """A console that goes silent when its reader leaves (``... | head``), and says so.

    The run can then save before it stops.
    """

    closed = False

    def on_broken_pipe(self) -> None:
        """Print nothing from now on; Rich would exit at once."""
        self.closed = self.quiet = True
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
