"""The time of a run, shared out to its members."""

from types import SimpleNamespace

import numpy as np
import pytest

from herjax.commands import group, member
from herjax.learning.config import AdaptConfig
from herjax.learning.population import Advance


class Numbers:
    """Those of nobody."""

    def __init__(self, *_):
        self.seconds = []

    def resume(self, *_):
        pass

    def append(self, advances, before, seconds):
        self.seconds.append(seconds.tolist())


def test_members_share_the_time_of_a_lap(monkeypatch):
    """Running by their epochs in it, compiling equally; who had no slot has none."""
    monkeypatch.setattr(group, "Numbers", Numbers)
    chunks = iter([{0: 8, 2: 4}, {0: 10, 2: 10}])
    laps = iter([(6.0, 3.0), (8.0, 1.0)])
    population = SimpleNamespace(
        waiting=[0, 1, 2],
        advance=lambda epochs: [Advance(i, n, 0.5, 0, None, None) for i, n in next(chunks).items()],
    )
    checkpoints = SimpleNamespace(restore_latest=lambda like: None)
    members = [SimpleNamespace(folder=None)] * 3
    made = group.Group(members, population, checkpoints, set())
    stopwatch = SimpleNamespace(lap=lambda: next(laps))
    made.advance(8, stopwatch)
    assert made.seconds == pytest.approx(np.array([[4, 1.5], [0, 0], [2, 1.5]]))
    made.advance(8, stopwatch)
    assert made.seconds == pytest.approx(np.array([[6, 2], [0, 0], [8, 2]]))
    assert made.seconds.sum(axis=0) == pytest.approx([6 + 8, 3 + 1])
    assert made.numbers.seconds == [[[0, 4], [0, 0], [0, 2]], [[4, 6], [0, 0], [2, 8]]]


def test_seconds_running_and_compiling_are_told_apart():
    history = SimpleNamespace(accuracy=np.ones((1, 2)), run=np.ones(1, int))
    picture = SimpleNamespace(target=np.zeros((2, 2), int), input=np.zeros((2, 2), int))
    result = SimpleNamespace(solved=True, program=[])
    whose = member.Member("dot", 0, picture, None)
    values = member.measure(whose, result, history, AdaptConfig(), [1, 2], 4)
    assert (values["seconds_run"], values["seconds_compile"]) == (1, 2)
