import io
import pathlib
import time

import numpy as np
import pytest
from rich.console import Console

import herjax
from herjax.commands import live_view, progress
from herjax.commands.her_adapt import LOOK_EVERY, until_next_look
from herjax.commands.live_view import LiveView
from herjax.commands.member import Member
from herjax.commands.progress import Progress, duration
from herjax.learning.config import AdaptConfig
from herjax.learning.population import CHUNK


def test_until_one_is_solved_the_bound_is_told():
    seen = Progress(members=4, max_epochs=100)
    seen.see({("a", 0): 10, ("a", 1): 20})
    assert seen.epochs_left() == (np.inf, 90 + 80 + 2 * 100)
    seen.end(("a", 0), solved=False)
    assert seen.epochs_left() == (np.inf, 80 + 2 * 100)


def test_it_may_be_told_while_a_member_ends():
    """By another thread, between any two steps of this one."""
    seen = Progress(members=3, max_epochs=100)

    class Ends(int):
        def __rsub__(self, other):
            seen.end(("a", 1), solved=True)
            return other - int(self)

    seen.see({("a", 0): Ends(5), ("a", 1): 20, ("a", 2): 30})
    assert seen.epochs_left()[1] == 95 + 80 + 70
    assert "2 running, at epochs 5 .. 30" in seen.told()
    seen.running.clear()
    assert "0 running; " in seen.told()


@pytest.mark.parametrize("max_epochs", [5, 40, 10**6])
def test_the_estimate_is_that_of_a_simulation(max_epochs):
    """Epochs that each solve with the same chance, no member having more than a limit."""
    chance, members = 1 / 16, 4
    seen = Progress(members=members + 10, max_epochs=max_epochs)
    for member in range(10):  # ten solved after 16 epochs on average
        seen.see({("a", member): 1})
        seen.running[("a", member)] = 16
        seen.end(("a", member), solved=True)
    drawn = np.random.default_rng(0).geometric(chance, (20_000, members))
    mean = np.minimum(drawn, max_epochs).sum(axis=1).mean()
    assert seen.epochs_left() == (pytest.approx(mean, rel=0.1), members * max_epochs)


def test_what_came_before_the_process_does_not_count_for_its_speed():
    seen = Progress(members=2, max_epochs=100)
    seen.resume({("a", 0): 50})
    seen.see({("a", 0): 60, ("a", 1): 4})
    assert seen.done == 14


def test_it_is_told_in_words(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    seen = Progress(members=3, max_epochs=100)
    now[0] = 40.0
    assert seen.told() == "no epoch done yet, 40 s: programs are compiled first"
    seen.see({("a", 0): 10, ("a", 1): 30})
    assert seen.told() == "2 running, at epochs 10 .. 30; at most 4.3 min left"
    seen.end(("a", 1), solved=True)
    # 40 epochs have solved one: about 1 of 40 does. 90 epochs are left, and 100 of who waits.
    assert seen.told() == "1 running, at epochs 10 .. 10; about 73 s, at most 3.2 min left"
    seen.end(("a", 0), solved=False)
    seen.end(("a", 2), solved=False)
    assert seen.told() == "writing their files"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (119, "119 s"), (120, "2.0 min"), (7199, "120.0 min"), (7200, "2.0 h")]
    + [(172800, "2.0 days")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_lines_come_without_a_terminal_while_nothing_happens(monkeypatch):
    monkeypatch.setattr(live_view, "EVERY", 0.05)
    picture = herjax.Picture(np.zeros((1, 1), int), np.ones((1, 1), int), np.zeros((0, 6), int))
    members = [Member("own", seed, picture, pathlib.Path("own")) for seed in range(3)]
    view = LiveView(members, AdaptConfig(), done=1)
    view.console = Console(file=io.StringIO(), width=120)
    with view:
        time.sleep(0.4)
    lines = view.console.file.getvalue().splitlines()
    assert len(lines) >= 2
    assert lines[0].startswith("1 of 3 ended, 0 solved now; no epoch done yet")
    time.sleep(0.2)
    assert len(view.console.file.getvalue().splitlines()) == len(lines)  # it has stopped


@pytest.mark.parametrize("seconds", [0.01, 1.0, 3.0, 100.0])
def test_a_population_is_looked_at_as_often_as_its_epochs_allow(seconds):
    looks = [1]
    for _ in range(20):
        looks.append(until_next_look(looks[-1], looks[-1] * seconds))
    assert max(looks) * seconds <= max(2 * LOOK_EVERY, seconds)
    assert looks[-2:] == [CHUNK, CHUNK] or looks[-1] * seconds >= LOOK_EVERY / 2
