"""How far a population is, and how long the rest will take."""

import math
import time


class Progress:
    """How far a population is, and how long the rest will take.

    Each epoch is taken to solve with the same chance, which is what the epochs so far say; no
    member has more than ``max_epochs``. Hard pictures make a rest longer than that, so the bound is
    told beside it; until one is solved, it is all that is known.
    """

    def __init__(self, members: int, max_epochs: int):
        """``members``: those that have not ended."""
        self.members, self.max_epochs = members, max_epochs
        self.began = time.monotonic()
        self.running: dict[tuple[str, int], int] = {}  # epochs, by task and seed
        self.ended = self.solved = self.of_ended = self.done = 0

    def resume(self, running: dict[tuple[str, int], int]) -> None:
        """Epochs of members before this process, which took none of its time."""
        self.running = dict(running)

    def see(self, running: dict[tuple[str, int], int]) -> None:
        """Epochs of the members in the slots after a chunk."""
        self.done += sum(epoch - self.running.get(key, 0) for key, epoch in running.items())
        self.running = dict(running)

    def end(self, key: tuple[str, int], solved: bool) -> None:
        """A member has ended."""
        self.of_ended += self.running.pop(key, 0)
        self.ended, self.solved = self.ended + 1, self.solved + solved

    def epochs_left(self) -> tuple[float, int]:
        """Of all members, as estimated, and the most that there can be."""
        # A copy each time: what tells of it is another thread.
        epochs = list(self.running.values())
        waiting = self.members - self.ended - len(epochs)
        left = [self.max_epochs - epoch for epoch in epochs]
        left += [self.max_epochs] * max(waiting, 0)
        if not self.solved:
            return math.inf, sum(left)
        mean = (self.of_ended + sum(epochs)) / self.solved
        return sum(-mean * math.expm1(-most / mean) for most in left), sum(left)

    def told(self) -> str:
        """In words."""
        if self.ended == self.members:
            return "writing their files"
        seconds = time.monotonic() - self.began
        if not self.done:
            return f"no epoch done yet, {duration(seconds)}: programs are compiled first"
        epochs = sorted(self.running.values())
        about, most = (left * seconds / self.done for left in self.epochs_left())
        rest = f"about {duration(about)}, at most " if self.solved else "at most "
        at = f", at epochs {epochs[0]} .. {epochs[-1]}" if epochs else ""
        return f"{len(epochs)} running{at}; {rest}{duration(most)} left"


class Bests:
    """The best of each member so far, and when it was found."""

    def __init__(self):
        self.found: dict[tuple[str, int], tuple[float, int]] = {}  # by task and seed

    def see(self, key: tuple[str, int], epoch: int, best: float) -> int:
        """A member's best after so many epochs; -> epochs without a new one, as far as is known."""
        before, at = self.found.get(key, (-1.0, epoch))
        if best > before:
            self.found[key] = best, epoch
        return epoch - self.found[key][1]


def duration(seconds: float) -> str:
    """In a unit that suits it."""
    for size, unit in ((172800, "days"), (7200, "h"), (120, "min")):
        if seconds >= size:
            return f"{seconds / {'days': 86400, 'h': 3600, 'min': 60}[unit]:.1f} {unit}"
    return f"{seconds:.0f} s"
