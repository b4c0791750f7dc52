"""herjax: small decoders that teach themselves to draw, by Hindsight Experience Replay in JAX."""

from herjax import xla_flags

xla_flags.keep_reductions_in_xla()  # before JAX starts

from herjax.adaptation import Result, adapt, make_task
from herjax.checkpoint import CheckpointError
from herjax.executor import execute, prune
from herjax.her import (
    AdaptConfig,
    AdaptState,
    EpochMetrics,
    adapt_epoch,
    adapt_epochs,
    init_adaptation,
)
from herjax.metrics import pixel_accuracy
from herjax.model import Decoder, ModelConfig
from herjax.picture_files import load_picture
from herjax.picture_suite import Picture, pictures
from herjax.population import adapt_population
from herjax.pretraining import PretrainConfig
from herjax.recombination import recombine
from herjax.sampler import Samples, sample
from herjax.source import ProgramError, format_program, parse_program
from herjax.stats import pass_at_k, wilson_interval
from herjax.tasks import Task, TaskConfig, random_task
from herjax.weights import Pretrained, load_pretrained, save_weights

__all__ = [
    "AdaptConfig",
    "AdaptState",
    "CheckpointError",
    "Decoder",
    "EpochMetrics",
    "ModelConfig",
    "Picture",
    "PretrainConfig",
    "Pretrained",
    "ProgramError",
    "Result",
    "Samples",
    "Task",
    "TaskConfig",
    "adapt",
    "adapt_epoch",
    "adapt_epochs",
    "adapt_population",
    "execute",
    "format_program",
    "init_adaptation",
    "load_picture",
    "load_pretrained",
    "make_task",
    "parse_program",
    "pass_at_k",
    "pictures",
    "pixel_accuracy",
    "prune",
    "random_task",
    "recombine",
    "sample",
    "save_weights",
    "wilson_interval",
]
