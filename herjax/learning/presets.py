"""The settings of a pretraining, and named ones."""

import dataclasses

from herjax.decoder.embedding import ModelConfig
from herjax.runtime.config import check_types, told
from herjax.tasks.random import TaskConfig, size_buckets

HELD_OUT_SEED = 2**31 - 1  # root of the held-out tasks' keys; not allowed as a training seed


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """A pretraining run. The defaults are the first stage of the shipped ``base-10``.

    Every step draws one batch of new tasks whose canvases fall into one bucket of areas, so that
    small canvases do not pay for large ones; buckets are drawn by ``size_shares``.

    Attributes:
      init: weights to start from: a shipped name or a folder; empty: random ones. They may be of a
        smaller max_side: the new rows and columns start at random.
      model: shape of the decoder.
      tasks: distribution of the random tasks.
      size_limits: largest area of a bucket, cells.
      size_shares: of the steps, one for each bucket; empty: in proportion to its number of sizes.
      batch_size: programs a step.
      microbatch: programs at a time on each device; 0: at most 8 on a CPU, fewer of large canvases,
        else 128.
      steps: of training.
      warmup_steps: in which the rates rise from 0.
      muon_lr: peak, for the matrices of the blocks; decays linearly to 0.
      adam_lr: peak, for all other parameters.
      clip: global norm of the gradient.
      seed: of everything random.
      log_every: steps between two lines of metrics.
      checkpoint_every: steps between two checkpoints.
      eval_every: steps between two evaluations.
      eval_tasks: held-out tasks on the way; a multiple of the number of sizes for exact shares.
      final_eval_tasks: held-out tasks at the end.
      snapshots: steps whose weights are kept.
    """

    init: str = ""
    model: ModelConfig = ModelConfig()
    tasks: TaskConfig = TaskConfig()
    size_limits: tuple[int, ...] = (18, 30, 42, 56, 72, 100)
    size_shares: tuple[float, ...] = ()
    batch_size: int = 128
    microbatch: int = 0
    steps: int = 6_000
    warmup_steps: int = 100
    muon_lr: float = 0.02
    adam_lr: float = 2e-3
    clip: float = 1.0
    seed: int = 0
    log_every: int = 20
    checkpoint_every: int = 250
    eval_every: int = 1_000
    eval_tasks: int = 256
    final_eval_tasks: int = 1024
    snapshots: tuple[int, ...] = (200, 600, 2_000)

    def __post_init__(self) -> None:
        check_types(self)
        counts = ("batch_size", "steps", "warmup_steps", "log_every", "checkpoint_every")
        for name in (*counts, "eval_every", "eval_tasks", "final_eval_tasks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("muon_lr", "adam_lr", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.microbatch < 0 or (self.microbatch and self.batch_size % self.microbatch):
            raise ValueError(
                f"microbatch must divide batch_size {self.batch_size}, got {self.microbatch}"
            )
        if not 0 <= self.seed < HELD_OUT_SEED:
            raise ValueError(f"seed must be 0 .. {HELD_OUT_SEED - 1}, got {self.seed}")
        self._check_tasks()

    def _check_tasks(self) -> None:
        if not 1 <= self.tasks.min_side <= self.tasks.max_side <= self.model.max_side:
            raise ValueError(
                f"tasks.min_side {self.tasks.min_side} and tasks.max_side {self.tasks.max_side}"
                f" must be 1 .. model.max_side ({self.model.max_side})"
            )
        if not 1 <= self.tasks.ops <= self.model.ops:
            raise ValueError(
                f"tasks.ops {self.tasks.ops} must be 1 .. model.ops ({self.model.ops})"
            )
        size_buckets(self.tasks, self.size_limits)
        shares = self.size_shares or (1.0,) * len(self.size_limits)
        if len(shares) != len(self.size_limits) or min(shares) < 0 or not 0 < sum(shares) < 1e9:
            raise ValueError(
                f"size_shares must be {len(self.size_limits)} numbers from 0, not all 0, one for"
                f" each of size_limits, got {told(self.size_shares)}"
            )


PRESETS = {
    # For tests: learns next to nothing in the minute that it is compiled.
    "tiny": PretrainConfig(
        model=ModelConfig(width=32, layers=2, program_layers=1, heads=2, max_side=6),
        tasks=TaskConfig(max_side=6, max_draws=3),
        size_limits=(16, 36),
        batch_size=16,
        steps=20,
        warmup_steps=5,
        log_every=5,
        checkpoint_every=10,
        eval_every=10,
        eval_tasks=32,
        final_eval_tasks=32,
        snapshots=(10,),
    ),
    # The first of the stages of the shipped weights; see the model card in herjax/pretrained.
    "base-10": PretrainConfig(),
    # A later stage, for pictures of up to 30x30, from weights for 20x20: most programs on small
    # canvases, which cost little and from which the large ones learn too.
    "base-30": PretrainConfig(
        init="base-20",
        model=ModelConfig(max_side=30),
        tasks=TaskConfig(max_side=30, drawn_inputs=0.25),
        size_limits=(30, 56, 100, 225, 400, 625, 900),
        size_shares=(0.15, 0.18, 0.22, 0.22, 0.14, 0.05, 0.04),
        batch_size=64,
        steps=5_000,
        muon_lr=0.01,
        adam_lr=1e-3,
        seed=3,
        checkpoint_every=100,
        eval_every=2_500,
        snapshots=(),
    ),
    # For a GPU. Not yet trained.
    "large": PretrainConfig(
        model=ModelConfig(width=256, layers=8, program_layers=3, heads=8),
        batch_size=1024,
        steps=50_000,
        warmup_steps=500,
        muon_lr=0.01,
        adam_lr=1e-3,
        snapshots=(),
    ),
}
