"""Many adaptations at once: every member has its own picture, weights, optimiser and key.

Members share one compiled program by the canvas that their pictures are padded to, and stand in S
slots, spread over the "data" axis of the mesh. Between chunks of epochs a member that has ended
leaves its slot to the next one. A member's result is that of the same member run alone, but for
rounding where there are several devices or a batch.

On CPUs a device runs its members one after the other, which keeps the arrays of each in the cache;
on accelerators the members of a device are one batch.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from herjax.decoder.model import Decoder
from herjax.decoder.weights import Pretrained
from herjax.learning.config import AdaptConfig
from herjax.learning.epoch import AdaptState, EpochMetrics, adapt_epochs, init_adaptation, runs_for
from herjax.learning.hindsight import hindsight
from herjax.learning.learner import Learner
from herjax.learning.result import Result, make_result, without_padding
from herjax.learning.room import default_slots
from herjax.runtime.program_cache import call_kept
from herjax.runtime.sharding import check_mesh, platform_of, replicated, state_shardings
from herjax.tasks.task import Task, canvas_side, pad_task

CHUNK = 8  # most epochs between two looks at who has ended, or whether Ctrl-C came


def by_canvas(shapes: Sequence[tuple[int, ...]], max_side: int) -> list[list[int]]:
    """Indices of pictures of these shapes (R, C), grouped by the canvas that they are padded to."""
    groups: dict[int, list[int]] = {}
    for index, shape in enumerate(shapes):
        groups.setdefault(canvas_side(shape, max_side), []).append(index)
    return list(groups.values())


class Advance(NamedTuple):
    """How far a member is after a chunk of epochs."""

    member: int  # its index
    epoch: int  # epochs done
    best_accuracy: float
    run: int  # programs run in all epochs
    last: EpochMetrics  # of its last epoch
    ended: AdaptState | None  # its last state, if it has ended


@struct.dataclass
class _Progress:
    """How far the member in each slot is; whole on every device."""

    epoch: Array  # int32 [S]
    running: Array  # bool [S]
    best_accuracy: Array  # float32 [S]
    run: Array  # int32 [S]
    last: EpochMetrics  # [S, ...]


def _shard(state: AdaptState, mesh: Mesh) -> AdaptState:
    return jax.lax.with_sharding_constraint(state, state_shardings(mesh, state, ("data",)))


@partial(jax.jit, static_argnames=("impl", "config", "shape", "mesh"))
def _start(
    params: dict[str, Any],
    key_data: Array,
    used: Array,
    impl: str,
    config: AdaptConfig,
    shape: tuple[int, ...],
    mesh: Mesh,
) -> AdaptState:
    """Members before their first epoch; the unused ones never run."""
    keys = jax.random.wrap_key_data(key_data, impl=impl)
    state = jax.vmap(lambda key: init_adaptation(params, config, key, shape))(keys)
    return _shard(dataclasses.replace(state, running=state.running & used), mesh)


@partial(jax.jit, static_argnames="mesh", donate_argnames="state")
def _replace(state: AdaptState, slots: Array, new: AdaptState, mesh: Mesh) -> AdaptState:
    """``state`` with the members in some slots (bool [S]) replaced by those of ``new``."""

    def choose(old: Array, new: Array) -> Array:
        return jnp.where(slots.reshape(-1, *(1,) * (old.ndim - 1)), new, old)

    return _shard(jax.tree.map(choose, state, new), mesh)


@partial(jax.jit, static_argnames="mesh")
def _gather(state: AdaptState, index: Array, used: Array, mesh: Mesh) -> AdaptState:
    """The members in the slots ``index`` (int [S']), of which only the ``used`` ones run."""
    state = jax.tree.map(lambda leaf: leaf[index], state)
    return _shard(dataclasses.replace(state, running=state.running & used), mesh)


@partial(jax.jit, static_argnames="mesh")
def _take(state: AdaptState, slot: Array, mesh: Mesh) -> AdaptState:
    """One member, whole on every device."""
    data = mesh.shape["data"]

    def take(leaf: Array) -> Array:
        # Every device slices one of its own: only these are exchanged, not all that there are.
        own = leaf.reshape(data, -1, *leaf.shape[1:])[:, slot % (len(leaf) // data)]
        own = jax.lax.with_sharding_constraint(own, NamedSharding(mesh, P("data")))
        return own[slot // (len(leaf) // data)]

    return jax.lax.with_sharding_constraint(jax.tree.map(take, state), replicated(mesh))


@partial(jax.jit, static_argnames="mesh")
def _progress(state: AdaptState, mesh: Mesh) -> _Progress:
    def last(history: EpochMetrics, epoch: Array) -> EpochMetrics:
        return jax.tree.map(lambda rows: rows[epoch - 1], history)

    row = jax.vmap(last)(state.history, state.epoch)
    run = jnp.sum(state.history.run, axis=1)
    progress = _Progress(state.epoch, state.running, state.best_accuracy, run, row)
    return jax.lax.with_sharding_constraint(progress, replicated(mesh))


@partial(
    jax.jit,
    static_argnames=("model", "config", "learner", "mesh", "vectorize"),
    donate_argnames="state",
)
def advance_members(
    state: AdaptState,
    tasks: Task,
    epochs: Array,
    model: Decoder,
    config: AdaptConfig,
    learner: Learner,
    mesh: Mesh,
    vectorize: bool,
) -> AdaptState:
    """Every device runs its own members; there is no communication over "data"."""

    def run(member: tuple[AdaptState, Task]) -> AdaptState:
        # A loop over one member is none: it must not be fused with what is around it, or its bits
        # depend on how many there are.
        member = jax.lax.optimization_barrier(member)
        return jax.lax.optimization_barrier(adapt_epochs(model, *member, config, epochs, learner))

    def run_all(*members: Any) -> AdaptState:
        return jax.vmap(run)(members) if vectorize else jax.lax.map(run, members)

    state = jax.shard_map(
        run_all,
        mesh=mesh,
        in_specs=P("data"),
        out_specs=P("data"),
        # XLA sums in another order once an axis is left to it: only if there is a need.
        axis_names={"data"} if mesh.shape["model"] > 1 else set(mesh.axis_names),
        check_vma=False,
    )(state, tasks)
    return _shard(state, mesh)  # as it came, so that the next call needs no other program


class Population:
    """Members that share a canvas, and the slots they run in.

    ``state`` (AdaptState [S, ...]) and ``members`` (int32 [S]: who is in a slot, -1 for nobody) are
    what to save; see ``restore``.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        tasks: Sequence[Task],
        keys: Array,
        config: AdaptConfig,
        *,
        learner: Learner = hindsight,
        mesh: Mesh | None = None,
        slots: int = 0,
        vectorize: bool | None = None,
    ):
        """Make empty slots.

        Args:
          pretrained: the decoder that every member starts from.
          tasks: one a member, of any shapes; all are padded to the canvas of the largest.
          keys: PRNG keys, one a member.
          config: of all members.
          learner: likewise.
          mesh: all devices on "data" if None.
          slots: S, rounded up to a multiple of the "data" axis; 0: what suits the device.
          vectorize: whether a device runs its members as one batch; None: not on CPUs.
        """
        self.pretrained, self.config, self.learner = pretrained, config, learner
        self.mesh = check_mesh(mesh)
        platform = platform_of(self.mesh)
        self.model = pretrained.model.clone(platform=platform)
        self.vectorize = platform != "cpu" if vectorize is None else vectorize
        shardings = state_shardings(self.mesh, pretrained.params)
        self.params = jax.device_put(pretrained.params, shardings)
        self._given, self.shapes = list(tasks), [task.target.shape for task in tasks]
        max_side = pretrained.model.config.max_side
        side = max(canvas_side(shape, max_side) for shape in self.shapes)
        padded = [pad_task(task, side) for task in tasks]
        self.tasks = jax.tree.map(lambda *leaves: np.stack(leaves), *padded)
        self.key_data, self.impl = np.asarray(jax.random.key_data(keys)), jax.random.key_impl(keys)
        self.waiting = list(range(len(keys)))  # members that have not begun
        slots = slots or default_slots(self.mesh.shape["data"], platform)
        self.members = np.full(self._round(min(slots, len(keys))), -1, np.int32)
        self.state: AdaptState | None = None  # before the first advance

    @property
    def done(self) -> bool:
        """Have all members ended?"""
        return not self.waiting and not np.any(self.members >= 0)

    def advance(self, epochs: int) -> list[Advance]:
        """Run every member in a slot for at most so many epochs; how far each came.

        A member that has ended leaves its slot.
        """
        self._fill()
        tasks = jax.tree.map(self._of_slots, self.tasks)
        self.state = call_kept(
            advance_members,
            self.state,
            tasks,
            np.int32(epochs),
            model=self.model,
            config=self.config,
            learner=self.learner,
            mesh=self.mesh,
            vectorize=self.vectorize,
            runs_for=runs_for(self.tasks.target),
        )
        # Devices end at different times; a collective that waits for the last too long aborts.
        jax.block_until_ready(self.state)
        progress = jax.device_get(call_kept(_progress, self.state, mesh=self.mesh))
        advances = []
        for slot in np.flatnonzero(self.members >= 0):
            mine = jax.tree.map(lambda leaf, slot=slot: leaf[slot], progress)
            ended = None
            if not mine.running:
                ended = call_kept(_take, self.state, slot, mesh=self.mesh)
            member = int(self.members[slot])
            done = int(mine.epoch), mine.best_accuracy, int(mine.run)
            last = without_padding(mine.last, self.shapes[member])
            advances.append(Advance(member, *done, last, ended))
            if ended is not None:
                self.members[slot] = -1
        return advances

    def result(self, advance: Advance) -> Result:
        """The result of a member that has ended.

        Raises:
          ValueError: if it has not ended.
          FloatingPointError: if its loss is not finite.
        """
        if advance.ended is None:
            raise ValueError(f"member {advance.member} has not ended: epoch {advance.epoch}")
        task = self._given[advance.member]
        return make_result(advance.ended, self.config, self.pretrained, task)

    def like(self, members: Sequence[int]) -> AdaptState:
        """Shapes and shardings of a saved state with these members in its slots."""

        def saved(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            shape = (len(members), *leaf.shape[1:])
            return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=replicated(self.mesh))

        arrays, static = self._to_start()
        return jax.tree.map(saved, jax.eval_shape(partial(_start, **static), *arrays))

    def restore(self, state: AdaptState, members: Sequence[int], ended: set[int]) -> None:
        """Go on from a saved state, of whatever mesh; members in ``ended`` are left out."""
        found = np.array(members)
        kept = [slot for slot, member in enumerate(found) if member >= 0 and member not in ended]
        begun = ended.union(found[kept].tolist())
        self.waiting = [member for member in self.waiting if member not in begun]
        slots, self.state, self.members = max(len(self.members), len(kept)), state, found
        self._move(kept, slots)

    def _round(self, slots: int) -> int:
        data = self.mesh.shape["data"]
        return -(-slots // data) * data

    def _of_slots(self, of_members: np.ndarray) -> np.ndarray:
        """What belongs to the member in each slot; the first member's for empty ones."""
        return of_members[np.maximum(self.members, 0)]

    def _to_start(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of ``_start``: arrays, and static ones."""
        arrays = self.params, self._of_slots(self.key_data), self.members >= 0
        shape = self.tasks.target.shape[1:]
        return arrays, dict(impl=self.impl, config=self.config, shape=shape, mesh=self.mesh)

    def _fill(self) -> None:
        """Put waiting members into empty slots; without any, halve a batch that is half empty."""
        empty = np.flatnonzero(self.members < 0)[: len(self.waiting)]
        if len(empty):
            self.members[empty] = self.waiting[: len(empty)]
            self.waiting = self.waiting[len(empty) :]
            arrays, static = self._to_start()
            new = call_kept(_start, *arrays, **static)
            if self.state is not None:
                fill = np.isin(np.arange(len(self.members)), empty)
                new = call_kept(_replace, self.state, fill, new, mesh=self.mesh)
            self.state = new
        kept = np.flatnonzero(self.members >= 0)
        half = self._round(len(self.members) // 2)
        if self.vectorize and len(kept) <= half < len(self.members):
            self._move(kept, half)

    def _move(self, kept: Sequence[int] | np.ndarray, slots: int) -> None:
        """Put what is in the ``kept`` slots into the first of so many new ones."""
        slots = self._round(slots)
        index, used = np.zeros(slots, int), np.arange(slots) < len(kept)
        index[used] = kept
        self.members = np.where(used, self.members[index], -1)
        self.state = call_kept(_gather, self.state, index, used, mesh=self.mesh)
