"""The members of a run that share a canvas: how far each is, and where that is kept."""

import numpy as np

from herjax.commands import cli
from herjax.commands.member import Member
from herjax.commands.numbers import Numbers
from herjax.learning.population import Advance, Population
from herjax.runtime.checkpoint import Checkpoints


class Group:
    """The members that share a canvas, with the epochs and the seconds that each has had."""

    def __init__(
        self,
        members: list[Member],
        population: Population,
        checkpoints: Checkpoints,
        ended: set[int],
        events: bool = False,
    ):
        """From a checkpoint if there is one.

        Args:
          members: those of ``population``, in its order.
          population: nothing of it has run.
          checkpoints: of this canvas.
          ended: which members have their results.
          events: write event files, too.
        """
        self.members, self.population, self.checkpoints = members, population, checkpoints
        self.epochs = np.zeros(len(members), int)
        self.seconds = np.zeros((len(members), 2))  # running, compiling
        self.begun_anew = 0  # epochs done in vain: numbers of checkpoints never fall
        folders = [member.folder for member in members]
        self.numbers = Numbers(population, folders, events)
        saved = checkpoints.restore_latest(lambda info: population.like(info["members"]))
        self.resumed = saved is not None
        if saved is None:
            population.waiting = [i for i in population.waiting if i not in ended]
        else:
            step, state, info = saved
            self.epochs, self.seconds = np.array(info["epochs"]), np.array(info["seconds"])
            population.restore(state, info["members"], ended)
            # A kill may come before the files of a member that had ended: it begins anew.
            self.epochs[population.waiting] = 0
            self.seconds[population.waiting] = 0
            self.begun_anew = step - int(self.epochs.sum())
        self.numbers.resume(self.epochs, ended)

    def advance(self, epochs: int, stopwatch: cli.Stopwatch) -> list[Advance]:
        """Run every member in a slot for at most so many epochs, and write their numbers."""
        advances = self.population.advance(epochs)
        which, now = [a.member for a in advances], [a.epoch for a in advances]
        # Each member's share of the time: by its epochs; of compiling, an equal one.
        running, compiling = stopwatch.lap()
        before, spent = self.epochs.copy(), self.seconds[:, 0].copy()
        share = (now - before[which]) / max(np.sum(now - before[which]), 1)
        self.epochs[which] = now
        self.seconds[which, 0] += running * share
        self.seconds[which, 1] += compiling / len(which)
        self.numbers.append(advances, before, np.stack([spent, self.seconds[:, 0]], axis=1))
        return advances

    def save(self) -> bool:
        """Write a checkpoint; False, after a warning, if that fails."""
        state = {
            "members": self.population.members,
            "epochs": self.epochs,
            "seconds": self.seconds,
        }
        info = {name: values.tolist() for name, values in state.items()}
        step = int(self.epochs.sum()) + self.begun_anew
        return self.checkpoints.try_save(step, self.population.state, info)
