import io
import json
import struct
import sys
import types

import numpy as np
import pytest
from PIL import Image

from herjax.commands import events, numbers
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
    history["best_picture"] = drawn.integers(0, 10, (*shape, 4, 4), np.int8)
    return types.SimpleNamespace(**history)


@pytest.fixture
def population():
    """Member 2 is in slot 0, member 0 in slot 1; member 1 waits."""
    state = types.SimpleNamespace(history=make_history())
    members = np.array([2, 0], np.int32)
    mesh = make_mesh({"data": 1, "model": 1})
    shapes = [(2, 3), (4, 4), (3, 2)]
    return types.SimpleNamespace(
        state=state, members=members, config=CONFIG, mesh=mesh, shapes=shapes
    )


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


def read_events(folder):
    """The events of all files of a folder, in their order: (step, numbers, picture or None)."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    masked = pytest.importorskip("tensorboardX.record_writer").masked_crc32c
    found = []
    for path in sorted(folder.glob("*tfevents*")):
        data = path.read_bytes()
        while data:
            length, check = struct.unpack("<QI", data[:12])
            assert check == masked(data[:8])
            body, (check,) = data[12 : 12 + length], struct.unpack("<I", data[12 + length :][:4])
            assert check == masked(body)
            found.append(event_pb2.Event.FromString(body))
            data = data[16 + length :]
    assert found[0].file_version == "brain.Event:2"
    assert all(not event.file_version for event in found[1:])
    told = []
    for event in found[1:]:
        values = {value.tag: value for value in event.summary.value}
        image = values.pop("best_picture", None)
        if image is not None:
            told[-1][2] = Image.open(io.BytesIO(image.image.encoded_image_string))
            assert told[-1][0] == event.step
        else:
            told.append([event.step, {n: v.simple_value for n, v in values.items()}, None])
    return told


def check_events(folder, population, slot, epochs):
    """The events must be those of the first epochs, each once, from the history."""
    expected, found = whole(population, slot, epochs), read_events(folder)
    assert [step for step, _, _ in found] == list(range(epochs))
    height, width = population.shapes[int(population.members[slot])]
    for (step, told, picture), line in zip(found, expected, strict=True):
        del line["epoch"]
        told.pop("seconds", None)
        assert told == pytest.approx({n: float(v) for n, v in line.items() if v is not None})
        scale = events.SIDE // max(height, width)
        assert picture.size == (width * scale, height * scale)
        cells = np.asarray(picture)[scale // 2 :: scale, scale // 2 :: scale]
        drawn = population.state.history.best_picture[slot, step, :height, :width]
        assert np.array_equal(cells, events.RGB[drawn])


def test_event_files_hold_the_numbers_and_the_best_picture_of_every_epoch(population, tmp_path):
    pytest.importorskip("tensorboardX")
    folders = [tmp_path / str(member) for member in range(MEMBERS)]
    writer = Numbers(population, folders, events=True)
    writer.resume(np.zeros(MEMBERS, int), set())
    before = np.zeros(MEMBERS, int)
    for ends in ({2: 8, 0: 8}, {2: 9, 0: 12}):  # a chunk, one epoch, and one that ends
        advances = [advance(population, m, end, ended=end == 12) for m, end in ends.items()]
        writer.append(advances, before, np.zeros((MEMBERS, 2)))
        before = np.array([ends[0], 0, ends[2]])
    check_events(folders[2], population, 0, 9)
    check_events(folders[0], population, 1, 12)
    assert not folders[1].exists()


def test_a_run_that_continues_has_no_step_twice(population, tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    folders = [tmp_path / str(member) for member in range(MEMBERS)]
    first = Numbers(population, folders, events=True)
    first.append([advance(population, 2, 7)], np.zeros(MEMBERS, int), np.zeros((MEMBERS, 2)))
    (folders[2] / "events.out.tfevents.7.mine").write_bytes(b"")
    monkeypatch.setattr(events.time, "time", lambda: 2e9)
    again = Numbers(population, folders, events=True)
    again.resume(np.array([0, 0, 5]), {0})  # a kill came after the checkpoint
    again.append([advance(population, 2, 6)], np.array([0, 0, 5]), np.zeros((MEMBERS, 2)))
    check_events(folders[2], population, 0, 6)
    names = sorted(path.name for path in folders[2].glob("*tfevents*"))
    assert names == ["events.out.tfevents.2000000000.herjax", "events.out.tfevents.7.mine"]


def test_events_that_a_full_disk_refuses_come_with_the_next_ones(population, tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    folders = [tmp_path / str(member) for member in range(MEMBERS)]
    writer = Numbers(population, folders, events=True)
    with monkeypatch.context() as full:
        full.setattr("pathlib.Path.open", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "x")))
        writer.append([advance(population, 2, 1)], np.zeros(MEMBERS, int), np.zeros((MEMBERS, 2)))
        with pytest.raises(OSError):
            writer.flush(2)
    writer.append([advance(population, 2, 2)], np.array([0, 0, 1]), np.zeros((MEMBERS, 2)))
    check_events(folders[2], population, 0, 2)


def test_without_its_package_one_line_says_which_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setattr(events, "TENSORBOARD", types.SimpleNamespace(value=True))
    with pytest.raises(ValueError, match=r"pip install 'herjax\[tensorboard\]'") as told:
        events.require_tensorboard()
    assert len(str(told.value).splitlines()) == 1
    monkeypatch.setattr(events, "TENSORBOARD", types.SimpleNamespace(value=False))
    events.require_tensorboard()
