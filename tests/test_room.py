"""What a run will take: the sum of its arrays, held to what runs were measured to take."""

import json
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest

import herjax
from herjax.decoder.weights import parameter_count
from herjax.learning import adaptation
from herjax.learning.config import AdaptConfig
from herjax.learning.epoch import init_adaptation
from herjax.learning.room import (
    START,
    adaptation_bytes,
    check_disk,
    check_pretraining,
    check_room,
    epoch_bytes,
    hindsight_bytes,
    state_bytes,
    weight_bytes,
)
from herjax.runtime.sharding import make_mesh
from tests.conftest import untrained

CONFIGS = {
    "default": AdaptConfig(),
    "plain": AdaptConfig.plain(),
    "many": AdaptConfig(programs=(300, 7), temperatures=(1.0, 0.2), greedy=True, max_epochs=40),
    "long": AdaptConfig(max_epochs=100_000, max_draws=70, fraction=1.0),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_state_is_counted_to_the_byte(tiny, name):
    config, side = CONFIGS[name], 7
    start = partial(init_adaptation, config=config, shape=(side, side))
    state = jax.eval_shape(start, tiny.params, key=jax.random.key(0))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    counted = sum(state_bytes(weight_bytes(tiny), config, side**2).values())
    assert counted == pytest.approx(held, rel=0.01, abs=50_000)  # not the kept programs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_epochs": 10**9}, "are the history (max_epochs, programs, max_draws)"),
        ({"programs": (10**6,)}, "are telling what is new (programs, max_epochs)"),
        ({"minibatch": 10**6}, "are the training step (minibatch, fresh, max_draws)"),
        ({"fresh": 10**6}, "are the training step (minibatch, fresh, max_draws)"),
        ({"max_draws": 10**5}, "are the training step (minibatch, fresh, max_draws)"),
        ({"programs": (10**9,), "max_epochs": 10**9}, "GB of memory, there are 8.0 GB"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_numbers(tiny, changes, message):
    config = AdaptConfig(**changes)
    with pytest.raises(ValueError, match="this would take about") as caught:
        check_room([(7, 7)], tiny, config, available=8 * 10**9)
    assert message in str(caught.value)
    check_room([(7, 7)], tiny, AdaptConfig(), available=8 * 10**9)


def test_members_count_as_far_as_they_run_together(tiny):
    shapes, config = [(7, 7)] * 100, AdaptConfig(max_epochs=20_000)
    check_room(shapes, tiny, config, slots=1, available=2 * 10**9)
    with pytest.raises(ValueError, match="are the history"):
        check_room(shapes, tiny, config, slots=50, available=2 * 10**9)


def test_devices_have_slots_that_nobody_is_in(tiny):
    mesh, config = make_mesh({"data": 8, "model": 1}), AdaptConfig(max_epochs=20_000)
    for members in (1, 8):
        bytes_ = START + sum(adaptation_bytes(tiny, config, 100, 8, members).values())
        check_room([(7, 7)] * members, tiny, config, mesh=mesh, available=bytes_)
        with pytest.raises(ValueError, match="are the history"):
            check_room([(7, 7)] * members, tiny, config, mesh=mesh, available=bytes_ - 1)


@pytest.mark.parametrize(("slots", "at_once", "copies"), [(1, 1, 2), (2, 1, 4), (2, 2, 4)])
def test_slots_are_counted_twice_and_epochs_as_often_as_they_run(tiny, slots, at_once, copies):
    config = AdaptConfig()
    state = state_bytes(weight_bytes(tiny), config, 100)
    epoch = epoch_bytes(tiny.model.config, config, 100)
    told = adaptation_bytes(tiny, config, 100, slots, at_once)
    assert sum(told.values()) == copies * sum(state.values()) + at_once * max(epoch.values())


def test_each_offer_takes_two_numbers_a_draw():
    few, many = (hindsight_bytes(AdaptConfig(partners=n, max_draws=20), 100) for n in (3, 5))
    assert many - few == 2 * 16 * 20 * 2 * 4  # partners, parents, draws, numbers, bytes


@pytest.fixture(scope="module")
def wide():
    return untrained(2, 1, max_side=30)


@pytest.fixture(scope="module")
def processor():
    """A mesh of one, whatever else there is."""
    return make_mesh({"data": 1, "model": 1}, jax.devices("cpu")[:1])


@pytest.mark.parametrize(
    ("sides", "slots", "largest", "together"),
    [
        ([7] * 99, 1, 10, 1),
        ([7] * 99, 2, 10, 2),
        ([7] * 99, 0, 10, 16),
        ([7] * 9, 0, 10, 9),
        ([7, 20], 1, 20, 1),
        ([20, 7], 1, 20, 1),
    ],
)
def test_memory_is_asked_for_the_slots_of_the_largest_canvas(
    wide, processor, sides, slots, largest, together
):
    config, shapes = AdaptConfig(), [(side, side) for side in sides]
    needed = START + sum(adaptation_bytes(wide, config, largest**2, together).values())
    check = partial(check_room, shapes, wide, config, mesh=processor, slots=slots)
    check(available=needed)
    with pytest.raises(ValueError, match="GB of memory"):
        check(available=needed - 1)


def test_what_is_imported_and_compiled_counts_too(tiny, processor):
    least = AdaptConfig(programs=(2,), max_epochs=1)
    with pytest.raises(ValueError, match="of memory, there are 0.5 GB"):
        check_room([(7, 7)], tiny, least, mesh=processor, available=500_000_000)


def test_a_population_asks_for_its_mesh_and_slots(tiny, target, processor, monkeypatch):
    def refuse(shapes, *_, mesh, slots):
        raise ValueError(f"{len(shapes)} members, {slots} at a time, {mesh.size} device")

    monkeypatch.setattr(adaptation, "check_room", refuse)
    settings = {"params": tiny, "mesh": processor, "slots": 2}
    with pytest.raises(ValueError, match="3 members, 2 at a time, 1 device"):
        herjax.adapt_population([target] * 3, [0, 1, 2], **settings)


def test_adapt_asks_before_it_begins(tiny, target):
    with pytest.raises(ValueError, match="GB of memory"):
        herjax.adapt(target, params=tiny, config=AdaptConfig(max_epochs=10**9))
    with pytest.raises(ValueError, match="GB of memory"):
        herjax.adapt_population(
            [target] * 2, [0, 1], params=tiny, config=AdaptConfig(max_epochs=10**9)
        )


def test_pretraining_is_asked_too(tiny):
    model = tiny.model.config
    check_pretraining(model, 128, 32, 5, available=2 * 10**9)
    for batch, microbatch, message in ((10**8, 32, "(batch_size)"), (10**5, 10**5, "(microbatch)")):
        with pytest.raises(ValueError, match="GB of memory") as caught:
            check_pretraining(model, batch, microbatch, 5, available=2 * 10**9)
        assert message in str(caught.value)
    with pytest.raises(ValueError, match="GB of memory"):
        check_pretraining(model, 128, 32, 5, devices=1000, available=2 * 10**9)
    wide = herjax.ModelConfig(width=16384, layers=512)
    for devices, message in ((1, "(model)"), (2, "(model, 2 times; once with mesh data:1)")):
        with pytest.raises(ValueError, match="GB are the weights and their optimiser") as caught:
            check_pretraining(wide, 1, 1, 5, devices, available=2 * 10**9)
        assert message in str(caught.value)
        held = devices * 4 * 4 * parameter_count(wide)  # weights, gradient and two moments
        assert f"; {held / 1e9:,.1f} GB are the weights" in str(caught.value)


def test_the_disk_is_asked_of_a_folder_that_is_not_there(tiny, tmp_path):
    run = tiny, [(7, 7)] * 9, AdaptConfig()
    check_disk(tmp_path / "a" / "b", *run)
    with pytest.raises(ValueError, match=f"of disk at {tmp_path}, there are 1.0 MB"):
        check_disk(tmp_path / "a" / "b", *run, free=10**6)
    begun = tmp_path / "begun"  # a kill must not be the end of a run for which there was room
    begun.mkdir()
    with (begun / "report.html").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ValueError, match="of disk at"):
        check_disk(begun, *run, free=10**6)
    (begun / "run.json").touch()
    check_disk(begun, *run, free=10**6)


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize(("members", "slots", "saved"), [(9, 1, 1), (9, 2, 2), (2, 9, 2)])
def test_the_disk_is_counted_to_the_byte(tiny, tmp_path, members, slots, saved, weights):
    size, config = weight_bytes(tiny), AdaptConfig()
    needed = 3 * saved * sum(state_bytes(size, config, 100).values())
    needed += members * (1_000_000 + weights * size)
    run = tiny, [(7, 7)] * members, config
    check = partial(check_disk, tmp_path, *run, slots=slots, weights=weights)
    check(free=needed)
    with pytest.raises(ValueError, match="of disk at"):
        check(free=needed - 1)


def test_checkpoints_are_those_of_the_canvas_that_a_picture_is_padded_to(wide, tmp_path):
    counted = {}
    for side in (9, 10, 11, 16, 17):
        with pytest.raises(ValueError, match="GB are the checkpoints") as caught:
            check_disk(tmp_path, wide, [(side, side)] * 1000, AdaptConfig(), slots=999, free=0)
        counted[side] = str(caught.value)
    assert counted[9] == counted[10] != counted[11] == counted[16] != counted[17]


RUN = """
import json, sys
import numpy as np
import herjax
from herjax.learning import room
side, changes = json.loads(sys.argv[1])
changes = {n: tuple(v) if isinstance(v, list) else v for n, v in changes.items()}
config = herjax.AdaptConfig.plain(**changes)
base = herjax.load_pretrained()
def stop(state, metrics):
    raise StopIteration
target = np.random.default_rng(0).integers(0, 10, (side, side))
herjax.adapt(target, params=base, config=config, on_epoch=stop)
lines = dict(line.split(":") for line in open("/proc/self/status") if line.startswith("Vm"))
parts = room.adaptation_bytes(base, config, side * side)
print(json.dumps([room.START + sum(parts.values()), 1024 * int(lines["VmHWM"].split()[0])]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the most memory is read from /proc")
@pytest.mark.parametrize(
    ("side", "changes"),
    [
        (10, {}),
        (10, {"max_epochs": 100_000}),
        (10, {"programs": [600], "minibatch": 128}),
        (10, {"programs": [4000]}),
        (20, {}),
    ],
)
def test_a_run_takes_what_was_told(side, changes):
    process = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps([side, changes])], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    told, taken = json.loads(process.stdout)
    print(f"{changes}: told {told / 1e9:.2f} GB, taken {taken / 1e9:.2f} GB")
    assert 1 / 1.5 < told / taken < 1.5
    assert np.isfinite(told)
