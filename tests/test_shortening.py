"""Shorter programs, against plain execution: the picture never changes, no program grows."""

import errno
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import herjax
from herjax.commands import member as writing
from herjax.commands import results
from herjax.commands import shortening as command
from herjax.commands.member import Member, Writer
from herjax.dsl.executor import prune
from herjax.dsl.ops import COLUMN, LINE, PIXEL, RECTANGLE, ROW
from herjax.dsl.source import format_script
from herjax.learning import shortening
from herjax.runtime.lock import LockedError
from herjax.tasks.suite import from_runs
from herjax.viewing.report import make_report
from tests import pages, referee

SHAPE = (6, 7)


ROOM = 6 * 7 + 2
simplify = jax.jit(lambda program, task: shortening.with_points(prune(program, task.input), task))


def case(seed):
    """A picture of three draws over a nearly blank input, and a program run by run."""
    rng = np.random.default_rng(seed)
    short = referee.random_program(rng, 3, *SHAPE, ops=2)
    short[2, 1] = 0  # a hole, which most of the input has, too
    canvas = rng.integers(0, 4, SHAPE) * (rng.random(SHAPE) < 0.1)
    task = herjax.make_task(referee.execute(short, canvas), input=canvas)
    runs = from_runs(np.asarray(task.target), input=-1).program
    runs = np.pad(rng.permutation(runs), ((0, ROOM - len(runs)), (0, 0)))
    return np.asarray(simplify(runs, task)), short, task, rng


def offered(program, task, draws):
    """Plain Python: each draw as late as it may stand, then bottom up without the needless ones."""
    target, canvas = np.asarray(task.target), np.asarray(task.input)

    def exact(draws):
        return np.array_equal(referee.execute(draws, canvas), target)

    new = [draw for draw in program if draw[0]]
    before = len(new)
    for draw in draws:
        places = [i for i in range(len(new) + 1) if exact([*new[:i], draw, *new[i:]])]
        if places:
            new.insert(places[-1], draw)
    kept = []
    for i, draw in enumerate(new):
        if not exact([*kept, *new[i + 1 :]]):
            kept.append(draw)
    return kept if len(kept) <= before else [draw for draw in program if draw[0]]


@pytest.fixture(scope="module")
def offer():
    @jax.jit
    def offer(program, draws, task):
        colours = jnp.arange(10)[:, None, None]
        right = shortening.pack_cells(task.target == colours)
        chain, offers = (shortening._with_cells(x, task, right) for x in (program, draws))
        blank = shortening.pack_cells(task.input == task.target)
        return shortening.offer(chain, offers, blank).record

    return offer


def test_what_an_op_does_not_use_does_not_count():
    """A column and a row with points that they have no use for."""
    program = np.array([[COLUMN, 3, 5, 1, 4, 4], [ROW, 5, 5, 3, 0, 2]])
    blank = np.zeros((6, 6), int)
    target = np.asarray(herjax.execute(program, blank))
    found = herjax.shorten(program, target, epochs=1).program
    assert np.array_equal(referee.execute(found, blank), target)


def test_pixels_rows_and_columns_are_written_as_lines():
    program = np.array([[COLUMN, 3, 0, 1, 0, 0], [ROW, 5, 5, 0, 0, 0], [PIXEL, 7, 2, 2, 0, 0]])
    lines = simplify(program, herjax.make_task(np.zeros((6, 6), int)))
    assert lines.tolist() == [[LINE, 3, 0, 1, 5, 1], [LINE, 5, 5, 0, 5, 5], [LINE, 7, 2, 2, 2, 2]]


def test_an_offer_is_what_plain_execution_makes_of_it(offer):
    shorter = changed = 0
    for seed in range(16):
        program, short, task, rng = case(seed)
        for _ in range(5):  # each to what came of the one before: draws lie upon each other
            count = int((program[:, 0] > 0).sum())
            draws = referee.random_program(rng, 2, *SHAPE, ops=2)
            draws[rng.integers(2)] = short[rng.integers(3)]
            if rng.random() < 0.5:  # the later first: the other then fits below it
                draws = short[np.sort(rng.permutation(3)[:2])[::-1]]
            found = np.asarray(offer(program, draws, task))
            expected = offered(program, task, draws)
            assert np.array_equal(found[: len(expected)], np.reshape(expected, (-1, 6)))
            assert not found[len(expected) :].any()
            shorter += len(expected) < count
            changed += not np.array_equal(found, program)
            program = found
    assert shorter > 5
    assert changed > shorter


def test_every_draw_that_is_proposed_lies_in_the_picture_and_every_kind_occurs():
    program, _, task, rng = case(3)
    other = case(4)[0]
    cells = shortening.sort_cells(task.target)
    dice = rng.random((500, shortening.DICE)).astype(np.float32)
    dice[:2] = [[0.0], [np.nextafter(np.float32(1), np.float32(0))]]
    propose = jax.jit(jax.vmap(shortening.propose, (0, None, None, None, None)))
    draws = np.asarray(propose(dice, program, other, cells, task))
    assert np.isin(draws[:, 0], [LINE, RECTANGLE]).all()
    assert (draws[:, 2:] >= 0).all()
    assert (draws[:, 2:] < [*SHAPE, *SHAPE]).all()
    target = np.asarray(task.target)
    kinds = np.searchsorted([shortening.NEAR, shortening.POINTS, shortening.CELLS], dice[:, 0])
    for draw in draws[kinds == 2]:  # between two cells of a colour
        assert target[draw[2], draw[3]] == target[draw[4], draw[5]] == draw[1]
    assert {tuple(draw) for draw in draws[kinds == 3]} == {tuple(d) for d in other if d[0]}
    assert len({tuple(draw) for draw in draws[kinds < 2]}) > 40
    for kind in range(3):
        assert set(draws[kinds == kind, 0]) == {LINE, RECTANGLE}


def frames(rows=9, cols=8):
    """Nested rectangles on a canvas smaller than those that are compiled, run by run."""
    target = np.zeros((rows, cols), np.int64)
    for inset in range(rows // 2):
        target[inset : rows - inset, inset : cols - inset] = inset + 1
    return from_runs(target)


@pytest.fixture
def few(monkeypatch):
    """Chains, and offers to each."""
    monkeypatch.setattr(shortening, "CHAINS", 8)
    monkeypatch.setattr(shortening, "STEPS", 40)


def test_a_picture_keeps_its_cells_and_its_draws_become_few(few):
    picture, seen = frames(), []
    result = herjax.shorten(
        picture.program, picture.target, epochs=3, on_epoch=lambda *now: seen.append(now)
    )
    assert np.array_equal(referee.execute(result.program, picture.input), picture.target)
    assert result.draws[0] == len(picture.program) > 20
    assert result.draws == sorted(result.draws, reverse=True)
    assert seen == list(enumerate(result.draws))[1:]
    assert 4 <= len(result.program) == result.draws[-1] < 10

    def stop(epoch, draws):
        if epoch == 2:
            raise StopIteration

    again = herjax.shorten(picture.program, picture.target, epochs=3, on_epoch=stop)
    assert again.draws == result.draws[:3]


def test_every_epoch_of_every_seed_differs_and_its_shorter_half_goes_on(few, monkeypatch):
    picture, call, found = frames(), shortening.call_kept, []

    def stay(function, *arrays, **static):
        """Each epoch begins with the chains of the first."""
        new = call(function, *arrays, **static)
        if function is not shortening._epoch:
            return new
        found.append(np.asarray(new))
        return arrays[0]

    monkeypatch.setattr(shortening, "call_kept", stay)
    for seed in range(2):
        herjax.shorten(picture.program, picture.target, epochs=2, seed=seed)
    assert len({chains.tobytes() for chains in found}) == 4
    for chains in found:
        draws = (chains[..., 0] > 0).sum(axis=1)
        assert draws[:4].tolist() == sorted(draws[:4])
        assert np.array_equal(chains[4:], chains[:4])


def test_a_chain_is_offered_draws_of_another(monkeypatch):
    """With stand-ins: the first draw of the other is offered, and taken."""
    monkeypatch.setattr(shortening, "propose", lambda dice, mine, other, *_: other[0])
    monkeypatch.setattr(shortening, "offer", lambda chain, draws, blank: draws)
    records = np.array([[[LINE, i, 0, 0, 0, 0]] * 2 for i in range(8)], np.int32)
    task, key = herjax.make_task([[1, 2]]), jax.random.key(0)
    epoch = jax.jit(shortening._epoch.__wrapped__, static_argnames="steps")
    after = epoch(records, task, key, 1, steps=1)[:4, 0, 1].tolist()
    assert len(set(after)) == 4
    assert after != [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"program": [[PIXEL, 1, 0, 0, 0, 0]]}, "does not draw the target: 71 of 72 cells differ"),
        ({"program": [[PIXEL, 1, 9, 0, 0, 0]]}, r"program: draw 1 is \[5, 1, 9, 0, 0, 0\]"),
        ({"program": [1, 2]}, "program must be records"),
        ({"epochs": -1}, "epochs must be an integer, 0 .. "),
        ({"seed": 0.5}, "seed must be an integer"),
        ({"on_epoch": 3}, "on_epoch must be a function"),
        ({"input": [[1]]}, r"input is \(1, 1\), target \(9, 8\)"),
    ],
)
def test_bad_arguments_are_told_in_a_line(change, message):
    picture = frames()
    arguments = {"program": picture.program, "target": picture.target, **change}
    with pytest.raises(ValueError, match=message):
        herjax.shorten(**arguments)


# ---- The command ---------------------------------------------------------------------------------


@pytest.fixture
def member(tmp_path):
    """A member that was solved, with the files that matter."""
    picture = frames(*pages.SHAPE)
    history = pages.make_history(picture.program[None, None], picture.target)
    page = make_report("own", picture, history, picture.program, {})
    (tmp_path / "report.html").write_text(page)
    (tmp_path / "solution.py").write_text(format_script(picture.program, picture.input))
    for name in results.FILES:
        (tmp_path / name).touch()
    shares = {name: [1.0] for name in ("best_accuracy", "best_attempt", "mean_attempt")}
    numbers = {"programs_sampled": 1, "programs_run": 1, "colours": 2, "least_draws": 2}
    seconds = {"seconds_run": 1.0, "seconds_compile": 1.0}
    values = {"task": "own", "seed": 0, "solved": True, "epochs": 1, **shares, **numbers, **seconds}
    values |= {"draws": len(picture.program), "weights_sha256": "", "device": ""}
    data = json.dumps({**values, "config": {}, "versions": {}}).encode()
    results.write_sums(tmp_path, results.FILES, data)
    (tmp_path / "result.json").write_bytes(data)
    return Member("own", 0, picture, tmp_path)


class Free:
    def check(self):
        """The lock is ours."""


def shorten_files(member, epochs=4, lock=Free):
    with open(member.folder.parent / "out", "w") as out:
        console = Console(file=out, width=200)
        with Writer() as writer:
            return command.shorten_all([member], epochs, lock(), writer, console)


def draws_in(path):
    return len(herjax.parse_program(path.read_text(), *pages.SHAPE))


def check_short(member, before):
    folder = member.folder
    assert results.damage(folder, "own", 0, weights=False) == {}
    result = results.read_result(folder)
    assert (result["draws_before"], result["draws"]) == (before, 2)
    assert (draws_in(folder / "first_solution.py"), draws_in(folder / "solution.py")) == (before, 2)
    data = pages.data_of((folder / "report.html").read_text())
    assert (data["length"], data["before"], data["least"]) == (2, before, 2)
    assert data["script"] == (folder / "solution.py").read_text()


@pytest.fixture
def found(monkeypatch):
    """What the search is to find in so many epochs; in none, nothing."""

    def shorten(program, *_, epochs, **__):
        short = [[RECTANGLE, i + 1, i, i, 3 - i, 6 - i] for i in range(2)]
        draws = [len(program)] + [2] * epochs
        return shortening.Shortened(np.array(short) if epochs else program, draws)

    monkeypatch.setattr(command, "shorten", shorten)


def test_the_short_program_takes_the_place_of_the_first(found, member):
    before = len(member.picture.program)
    assert shorten_files(member) == 1
    check_short(member, before)
    out = (member.folder.parent / "out").read_text()
    assert f"own, seed 0: 2 draws after 4 epochs of shortening, {before} before, at least 2" in out
    assert shorten_files(member) == 0  # done
    assert shorten_files(member, epochs=0) == 1  # from the first again
    assert draws_in(member.folder / "solution.py") == before


def test_what_was_not_solved_is_not_shortened(found, member):
    path = member.folder / "result.json"
    values = json.loads(path.read_text()) | {"solved": False, "best_accuracy": [0.5]}
    path.write_text(json.dumps(values))
    assert shorten_files(member) == 0


def test_the_search_is_on_the_input_and_with_the_seed_of_the_member(member, monkeypatch):
    given = []

    def shorten(program, target, *, input, epochs, seed, on_epoch):
        given.append((target, input, epochs, seed))
        return shortening.Shortened(program, [len(program)] * (epochs + 1))

    monkeypatch.setattr(command, "shorten", shorten)
    shorten_files(member._replace(seed=3))
    ((target, input, *others),) = given
    assert target is member.picture.target
    assert input is member.picture.input
    assert others == [4, 3]


def test_each_epoch_looks_whether_the_lock_is_still_ours(member, monkeypatch):
    class Lost:
        def check(self):
            raise LockedError("another run has the folder")

    monkeypatch.setattr(command, "shorten", lambda *_, on_epoch, **__: on_epoch(1, 2))
    with pytest.raises(LockedError, match="another run has the folder"):
        shorten_files(member, lock=Lost)


@pytest.mark.parametrize("writes", range(6))
def test_cut_off_between_any_two_files_it_is_whole_and_shortened_again(
    found, member, monkeypatch, writes
):
    left = iter(range(writes))
    write = command.write_atomically

    def cut_off(path, data):
        if next(left, None) is None:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(command, "write_atomically", cut_off)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        shorten_files(member)
    assert results.damage(member.folder, "own", 0, weights=False) == {}
    monkeypatch.setattr(command, "write_atomically", write)
    shorten_files(member)
    check_short(member, len(member.picture.program))


def test_what_a_full_disk_refuses_is_written_later(found, member, monkeypatch):
    refusals = [OSError(errno.ENOSPC, "No space left on device")] * 2
    write = command.write_atomically

    def refuse(path, data):
        if path.name == command.REPORT and refusals:
            raise refusals.pop()
        write(path, data)

    monkeypatch.setattr(command, "write_atomically", refuse)
    monkeypatch.setattr(writing, "RETRY", 0.01)
    assert shorten_files(member) == 1
    assert refusals == []
    check_short(member, len(member.picture.program))
