import contextlib
import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import herjax
from herjax.learning import adaptation
from herjax.learning.config import AdaptConfig
from herjax.learning.epoch import compiled_epochs
from herjax.learning.population import Advance, Population
from herjax.runtime import program_cache
from herjax.runtime.sharding import make_mesh

CONFIG = AdaptConfig(
    programs=(12, 4),
    temperatures=(1.0, 0.5),
    minibatch=4,
    max_epochs=5,
    max_draws=6,
    learning_rate=1e-4,
)
RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 10, shape) for shape in ((4, 5), (4, 5), (6, 3))]  # on one canvas
SEEDS = [0, 1, 2, 0, 1]


@contextlib.contextmanager
def optimised_as_for_users():
    """At the tests' level 0, multiply-adds are contracted in one program and not in another."""
    with pytest.MonkeyPatch.context() as patch:
        options = {"xla_backend_optimization_level": 1}
        patch.setattr(program_cache, "compiler_options", lambda *_: options)
        yield


@pytest.fixture(scope="module")
def tasks():
    """Three shapes on one canvas; the fourth picture is blank, and solved in its first epoch."""
    blank = np.zeros((2, 7), int)
    pictures = (PICTURES[0], PICTURES[0], PICTURES[1], blank, PICTURES[2])
    return [herjax.make_task(picture) for picture in pictures]


@pytest.fixture(scope="module")
def alone(tiny, tasks):
    """Every member run by itself."""
    with optimised_as_for_users():
        return [
            herjax.adapt(task.target, params=tiny, seed=seed, config=CONFIG)
            for task, seed in zip(tasks, SEEDS)
        ]


def keys(seeds):
    return jnp.stack([jax.random.key(seed) for seed in seeds])


def assert_same(result, other, tolerance=0.0):
    """The same programs and epochs; losses and weights to a tolerance."""
    assert result.solved == other.solved
    assert len(result.history) == len(other.history)
    assert np.array_equal(result.program, other.program)
    for epoch, expected in zip(result.history, other.history):
        assert np.array_equal(epoch.accuracy, expected.accuracy)
        assert np.array_equal(epoch.best_picture, expected.best_picture)
        assert abs(epoch.loss - expected.loss) <= tolerance
    for leaf, expected in zip(jax.tree.leaves(result.params), jax.tree.leaves(other.params)):
        assert np.abs(np.asarray(leaf) - np.asarray(expected)).max() <= tolerance


def test_adapt_as_one_program_is_the_same_as_epoch_by_epoch(tiny, tasks, alone):
    epochs = []
    result = herjax.adapt(
        tasks[0].target,
        params=tiny,
        seed=0,
        config=CONFIG,
        on_epoch=lambda state, metrics: epochs.append(metrics),
    )
    assert_same(result, alone[0])
    assert len(epochs) == len(alone[0].history) == 5


def test_epochs_run_a_few_at_a_time_are_the_same(tiny, tasks, alone, monkeypatch):
    calls = []

    def few(model, state, task, config, epochs, learner):
        calls.append(epochs)
        return compiled_epochs(model, state, task, config, epochs, learner)

    monkeypatch.setattr(adaptation, "CHUNK", 2)
    monkeypatch.setattr(adaptation, "compiled_epochs", few)
    with optimised_as_for_users():
        result = herjax.adapt(tasks[0].target, params=tiny, seed=0, config=CONFIG)
    assert calls == [2, 2, 2]
    assert_same(result, alone[0])


def run(tiny, tasks, seeds, devices, **options):
    mesh = make_mesh({"data": devices, "model": 1})
    options |= dict(params=tiny, config=CONFIG, mesh=mesh)
    return herjax.adapt_population(tasks, seeds, **options)


def test_members_end_bit_for_bit_as_if_run_alone(tiny, tasks, alone):
    given = [PICTURES[0], *tasks[1:]]  # a picture will do for its task
    told = {}
    with optimised_as_for_users():
        results = run(tiny, given, SEEDS, 1, slots=2, on_result=told.__setitem__)
    assert next(iter(told)) in (0, 1)  # of two slots
    assert sorted(told) == [0, 1, 2, 3, 4]
    assert all(told[index] is result for index, result in enumerate(results))
    assert np.array_equal(results[0].task.target, given[0])
    for result, task in zip(results[1:], given[1:]):
        chex.assert_trees_all_equal(result.task, task)
    for result, expected in zip(results, alone):
        assert_same(result, expected)
        assert result.config == CONFIG
    assert alone[3].solved  # made room
    assert len(alone[3].history) == 1


def test_on_several_devices_it_does_not_matter_who_else_runs(tiny, tasks, alone):
    together = run(tiny, tasks, SEEDS, 4, slots=4)  # as many as there are devices, as below
    single = run(tiny, tasks[2:3], SEEDS[2:3], 4)
    assert_same(single[0], together[2])
    for result, expected in zip(together, alone):  # XLA sums in another order
        assert_same(result, expected, tolerance=1e-3)


def test_members_as_one_batch_end_as_if_run_alone(tiny, tasks, alone):
    """As on accelerators: other sums, so the losses agree to rounding; half-empty batches halve."""
    assert not Population(tiny, tasks, keys(SEEDS), CONFIG).vectorize  # on CPUs
    assert Population(tiny, tasks, keys(SEEDS), CONFIG, vectorize=True).vectorize
    for result, expected in zip(run(tiny, tasks, SEEDS, 1, vectorize=True), alone):
        assert_same(result, expected, tolerance=1e-3)


@pytest.mark.slow
def test_a_population_goes_on_from_a_saved_state_on_another_mesh(tiny, tasks, alone):
    def make(devices):
        mesh = make_mesh({"data": devices, "model": 1})
        return Population(tiny, tasks, keys(SEEDS), CONFIG, mesh=mesh, slots=4)

    first = make(1)
    ended = {a.member: first.result(a) for a in first.advance(3) if a.ended is not None}
    assert len(ended) == 1
    state, members = jax.device_get(first.state), first.members.tolist()
    second = make(2)
    shapes = jax.tree.map(lambda leaf: leaf.shape, second.like(members))
    assert shapes == jax.tree.map(lambda leaf: leaf.shape, state)
    second.restore(state, members, set(ended))
    while not second.done:
        ended |= {a.member: second.result(a) for a in second.advance(2) if a.ended is not None}
    assert sorted(ended) == [0, 1, 2, 3, 4]
    for member, result in ended.items():
        assert_same(result, alone[member], tolerance=1e-3)


def test_a_population_that_goes_on_has_as_many_slots_as_it_was_given(tiny, tasks):
    def make(slots):
        mesh = make_mesh({"data": 1, "model": 1})
        return Population(tiny, tasks, keys(SEEDS), CONFIG, mesh=mesh, slots=slots)

    first = make(4)
    first._fill()
    state, members = jax.device_get(first.state), first.members.tolist()
    running = members[1:]  # the first one's results are there
    for slots in (4, 5, 1):
        second = make(slots)
        second.restore(state, members, ended={0})
        assert [member for member in second.members if member >= 0] == running
        assert len(second.members) == max(slots, len(running))
        assert second.waiting == [4]


def test_members_split_over_model_may_end_at_different_times(tiny, tasks):
    """Long programs, for which training has two branches: a collective in one would never end."""
    config = dataclasses.replace(
        CONFIG, partners=0, programs=(96,), temperatures=(1.0,), max_draws=70, max_epochs=2
    )
    mine, seeds = tasks[2:4], SEEDS[2:4]
    mesh = make_mesh({"data": 2, "model": 2})
    population = Population(tiny, mine, keys(seeds), config, mesh=mesh)
    results, run, programs = {}, {}, []
    while not population.done:
        advances = population.advance(1)
        for running in (a for a in advances if a.ended is None):
            with pytest.raises(ValueError, match="member 0 has not ended: epoch 1"):
                population.result(running)
        results |= {a.member: population.result(a) for a in advances if a.ended is not None}
        run |= {a.member: a.run for a in advances if a.ended is not None}
        programs.append(len(program_cache._calls))
    assert [len(results[member].history) for member in range(2)] == [2, 1]
    assert run == {member: 96 * len(result.history) for member, result in results.items()}
    # A state that was not left where it was would need another program.
    assert len(programs) == 2
    assert programs[0] == programs[1]
    for member, (task, seed) in enumerate(zip(mine, seeds)):
        alone = herjax.adapt(task.target, params=tiny, seed=seed, config=config)
        assert_same(results[member], alone, tolerance=1e-3)


def test_members_of_several_canvases_keep_their_seeds_and_their_places(monkeypatch):
    class Kept:
        """Ends its members at once, the last one first; a result is what it was given."""

        def __init__(self, decoder, tasks, keys, config, **_):
            self.given = list(zip(tasks, jax.random.key_data(keys)))
            self.done = False

        def advance(self, epochs):
            self.done = True
            return [Advance(i, 1, 1.0, 1, None, "ended") for i in reversed(range(len(self.given)))]

        def result(self, advance):
            return self.given[advance.member]

    monkeypatch.setattr(adaptation, "Population", Kept)
    tasks = [herjax.make_task(np.zeros((side, side), int)) for side in (12, 5, 12, 6, 25)]
    results = herjax.adapt_population(tasks, range(5))
    expected = jax.random.key_data(keys(range(5)))
    for (task, key), mine, its_own in zip(results, tasks, expected, strict=True):
        assert task.target.shape == mine.target.shape
        assert np.array_equal(key, its_own)


def test_not_finite_loss_is_named(tiny, tasks):
    params = jax.tree.map(lambda leaf: leaf * np.nan, tiny.params)
    broken = dataclasses.replace(tiny, params=params)
    with pytest.raises(FloatingPointError, match="loss nan in epoch 0 at learning_rate 0.0001"):
        herjax.adapt(tasks[0].target, params=broken, config=CONFIG)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([0, 1], "5 tasks and 2 seeds: they must pair up"),
        (3, r"seeds must be integers \[M\] or PRNG keys \[M\], got 3"),
        (np.zeros((5, 2)), r"seeds must be .*, got array"),
        (jax.random.key(0), r"seeds must be .*, got "),
        ([jax.random.key(seed) for seed in range(5)], "each of seeds must be an integer"),
        ([[0, 1], [2]], r"each of seeds must be an integer, .* got \[0, 1\]"),
        (np.zeros(5), r"each of seeds must be an integer, 0 .. 4294967295, got np.float64"),
        ([0, 1, 2, 3, -1], "each of seeds must be an integer, 0 .. 4294967295, got -1"),
        ("01234", "seeds must be"),
    ],
)
def test_tasks_and_seeds_must_pair_up(tasks, seeds, message):
    with pytest.raises(ValueError, match=message):
        herjax.adapt_population(tasks, seeds)


def test_seeds_may_be_keys():
    seeds = [0, 7, 2**32 - 1]
    expected = np.stack([jax.random.key_data(jax.random.key(seed)) for seed in seeds])
    raw = adaptation.keys_of(expected)
    assert np.array_equal(raw, expected)
    for given in (seeds, np.array(seeds), jax.random.wrap_key_data(raw)):
        assert np.array_equal(jax.random.key_data(adaptation.keys_of(given)), expected)


def test_it_runs_the_decoder_that_it_is_given(tiny, tasks):
    class Mine(herjax.Decoder):
        pass

    mine = dataclasses.replace(tiny, model=Mine(tiny.model.config))
    keys = jax.random.split(jax.random.key(0), len(tasks))
    assert type(Population(mine, tasks, keys, CONFIG).model) is Mine
    assert type(mine.computing_in("bfloat16").model) is Mine


@pytest.mark.parametrize("error", [KeyboardInterrupt, StopIteration, OSError("disk full")])
def test_what_has_ended_is_not_lost_when_the_rest_fails(tiny, tasks, error):
    def fail(index, result):
        told.append((index, result))
        if len(told) == 2:
            raise error

    told = []
    with pytest.raises(error if isinstance(error, type) else type(error)) as caught:
        run(tiny, tasks, SEEDS, 1, slots=1, on_result=fail)
    assert caught.value.results == dict(told)
    assert caught.value.__notes__ == ["Its attribute `results` has 2 of 5 results."]


def test_losses_that_are_not_finite_stop_no_other_member(tiny, tasks):
    def explode(model, train, task, attempts, config, key):
        """Weights that are not finite, of which the loss tells nothing yet."""
        update = herjax.hindsight(model, train, task, attempts, config, key)
        factor = jnp.where(attempts.solved, 1.0, jnp.inf)
        params = jax.tree.map(lambda leaf: leaf * factor, update.train.params)
        return update._replace(train=update.train.replace(params=params))

    message = "member 0 and 2 more of 4: loss nan in epoch 0 at learning_rate 0.0001"
    with pytest.raises(FloatingPointError, match=message) as caught:
        run(tiny, tasks[:4], SEEDS[:4], 1, slots=1, learner=explode)
    assert list(caught.value.results) == [3]
