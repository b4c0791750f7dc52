import json
import types

import numpy as np
import pytest

from herjax.commands import numbers
from herjax.commands.numbers import Numbers, to_lines
from herjax.learning.config import AdaptConfig
from herjax.learning.population import Advance
from herjax.runtime import records
from herjax.runtime.sharding import make_mesh

CONFIG = AdaptConfig(programs=(2,), keep=1, partners=2, max_epochs=30)  # 6 programs: 2 sampled
SLOTS, MEMBERS = 2, 3


def make_history():
    """Two slots, each epoch with numbers of its own; as of ``EpochMetrics``."""
    drawn = np.random.default_rng(0)
    shape = SLOTS, CONFIG.max_epochs
    history = {name: drawn.integers(1, 100, shape, np.int32) for name in ("run", "distinct", "new")}
    history |= {"trained": drawn.integers(1, 9, shape, np.int32), "solved": np.zeros(shape, bool)}
    history |= {name: drawn.random(shape, np.float32) for name in ("draws", "loss")}
    history["accuracy"] = drawn.random((*shape, 6), np.float32)
    history["loss"][0, 3] = np.nan
    return types.SimpleNamespace(**history)


@pytest.fixture
def population():
    """Member 2 is in slot 0, member 0 in slot 1; member 1 waits."""
    state = types.SimpleNamespace(history=make_history())
    members = np.array([2, 0], np.int32)
    mesh = make_mesh({"data": 1, "model": 1})
    return types.SimpleNamespace(state=state, members=members, config=CONFIG, mesh=mesh)


def row(population, slot, epoch):
    history = vars(population.state.history)
    return types.SimpleNamespace(**{name: leaf[slot, epoch] for name, leaf in history.items()})


def advance(population, member, epoch, ended=False):
    slot = {2: 0, 0: 1}[member]
    run = int(population.state.history.run[slot, :epoch].sum())
    state = None
    if ended:
        mine = {name: leaf[slot] for name, leaf in vars(population.state.history).items()}
        state = types.SimpleNamespace(history=types.SimpleNamespace(**mine))
    return Advance(member, epoch, 0.5, run, row(population, slot, epoch - 1), state)


def whole(population, slot, epochs):
    """What the file of a member must hold, straight from the history."""
    rows = {n: leaf[slot, :epochs] for n, leaf in vars(population.state.history).items()}
    return to_lines(rows, 0, 0, CONFIG)


def without_seconds(path):
    lines = records.read_lines(path)
    return [{name: line[name] for name in line if name != "seconds"} for line in lines]


def test_the_numbers_of_an_epoch_are_those_of_its_programs(population):
    lines = whole(population, 0, 5)
    history = population.state.history
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["programs_sampled"] for line in lines] == [2, 4, 6, 8, 10]
    assert [line["programs_run"] for line in lines] == np.cumsum(history.run[0, :5]).tolist()
    assert [line["best_accuracy"] for line in lines] == history.accuracy[0, :5].max(1).tolist()
    assert lines[1]["best_attempt"] == history.accuracy[0, 1, :2].max()
    assert lines[1]["mean_attempt"] == pytest.approx(history.accuracy[0, 1, :2].mean())
    assert [line["loss"] is None for line in lines] == [False, False, False, True, False]
    json.dumps(lines, allow_nan=False)


def test_chunks_of_any_length_make_the_file_of_an_undisturbed_run(population, tmp_path):
    folders = [tmp_path / str(member) for member in range(MEMBERS)]
    writer = Numbers(population, folders)
    writer.resume(np.zeros(MEMBERS, int), set())
    assert not list(tmp_path.rglob("metrics.jsonl"))
    before = np.zeros(MEMBERS, int)
    # Chunks of 8, of one epoch, and a last one in which member 0 ends.
    for ends in ({2: 8, 0: 8}, {2: 9, 0: 9}, {2: 17, 0: 12}):
        advances = [advance(population, m, end, ended=end == 12) for m, end in ends.items()]
        seconds = np.stack([before, before + 1.0], axis=1)
        if 12 in ends.values():
            population.members[1] = -1  # it has left its slot
        writer.append(advances, before, seconds)
        before = np.array([ends[0], 0, ends[2]])
    assert without_seconds(folders[2] / "metrics.jsonl") == whole(population, 0, 17)
    assert without_seconds(folders[0] / "metrics.jsonl") == whole(population, 1, 12)
    assert not (folders[1] / "metrics.jsonl").exists()
    told = [line["seconds"] for line in records.read_lines(folders[2] / "metrics.jsonl")]
    assert told[:8] == [round(i / 8, 3) for i in range(1, 9)]


@pytest.mark.parametrize(
    ("old", "seconds"),
    [
        (None, [None] * 4),
        (b"\xff garbage", [None] * 4),
        (b'{"epoch": 0, "seconds": 0.5}\n{"epoch": 1, "seconds": -1.0}\n', [0.5] + [None] * 3),
        (b'{"epoch": 0, "best_accuracy": 7, "seconds": 0.5}\n' * 9, [0.5] * 4),
    ],
)
def test_a_run_that_continues_believes_nothing_but_seconds(population, tmp_path, old, seconds):
    folders = [tmp_path / str(member) for member in range(MEMBERS)]
    for folder in folders:
        folder.mkdir()
        if old is not None:
            (folder / "metrics.jsonl").write_bytes(old)
    Numbers(population, folders).resume(np.array([4, 0, 4]), {0})
    assert without_seconds(folders[2] / "metrics.jsonl") == whole(population, 0, 4)
    lines = records.read_lines(folders[2] / "metrics.jsonl")
    assert [line["seconds"] for line in lines] == seconds
    assert not (folders[1] / "metrics.jsonl").exists()  # it begins anew
    if old is not None:
        assert (folders[0] / "metrics.jsonl").read_bytes() == old  # it has ended: left alone


def test_what_a_full_disk_refuses_comes_with_the_next_chunk(population, tmp_path, monkeypatch):
    folders = [tmp_path / str(member) for member in range(MEMBERS)]
    writer = Numbers(population, folders)
    with monkeypatch.context() as full:
        full.setattr(records, "append", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        writer.append([advance(population, 2, 1)], np.zeros(MEMBERS, int), np.zeros((MEMBERS, 2)))
        with pytest.raises(OSError, match="full"):
            writer.flush(2)
    writer.append([advance(population, 2, 2)], np.array([0, 0, 1]), np.zeros((MEMBERS, 2)))
    assert without_seconds(folders[2] / "metrics.jsonl") == whole(population, 0, 2)
    assert numbers.NAME == "metrics.jsonl"
