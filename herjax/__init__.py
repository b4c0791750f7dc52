"""herjax: small decoders that teach themselves to draw, by Hindsight Experience Replay in JAX."""

from herjax.runtime import xla_flags

xla_flags.keep_reductions_in_xla()  # before JAX starts

from herjax import stats
from herjax._version import __version__
from herjax.decoder.embedding import ModelConfig
from herjax.decoder.model import Decoder
from herjax.decoder.sampler import Samples, sample
from herjax.decoder.weights import Pretrained, load_pretrained, save_weights
from herjax.dsl.executor import execute, prune
from herjax.dsl.grammar import encode_programs
from herjax.dsl.source import ProgramError, format_program, format_script, parse_program
from herjax.learning import rivals
from herjax.learning.adaptation import adapt, adapt_population
from herjax.learning.attempts import Attempts, Pairs
from herjax.learning.config import AdaptConfig
from herjax.learning.epoch import (
    AdaptState,
    EpochMetrics,
    adapt_epoch,
    adapt_epochs,
    init_adaptation,
)
from herjax.learning.hindsight import hindsight
from herjax.learning.learner import Learner, Update, make_optimizer, program_log_probs
from herjax.learning.presets import PretrainConfig
from herjax.learning.pretraining import pretrain
from herjax.learning.recombination import recombine
from herjax.learning.result import Result
from herjax.learning.selection import (
    order_reversed,
    order_shuffled,
    order_sorted,
    select_all,
    select_best,
    select_diverse,
)
from herjax.learning.shortening import Shortened, shorten
from herjax.learning.train import TrainState, apply_gradients
from herjax.runtime.files import CheckpointError
from herjax.runtime.program_cache import keep_programs
from herjax.stats import pass_at_k, wilson_interval
from herjax.tasks.files import load_picture
from herjax.tasks.metrics import pixel_accuracy
from herjax.tasks.random import TaskConfig, random_task
from herjax.tasks.suite import Picture, pictures
from herjax.tasks.task import Task, make_task, pad_task
from herjax.viewing.display import Report, report, show

__all__ = [
    "AdaptConfig",
    "AdaptState",
    "Attempts",
    "CheckpointError",
    "Decoder",
    "EpochMetrics",
    "Learner",
    "ModelConfig",
    "Pairs",
    "Picture",
    "PretrainConfig",
    "Pretrained",
    "ProgramError",
    "Report",
    "Result",
    "Samples",
    "Shortened",
    "Task",
    "TaskConfig",
    "TrainState",
    "Update",
    "__version__",
    "adapt",
    "adapt_epoch",
    "adapt_epochs",
    "adapt_population",
    "apply_gradients",
    "encode_programs",
    "execute",
    "format_program",
    "format_script",
    "hindsight",
    "init_adaptation",
    "keep_programs",
    "load_picture",
    "load_pretrained",
    "make_optimizer",
    "make_task",
    "order_reversed",
    "order_shuffled",
    "order_sorted",
    "pad_task",
    "parse_program",
    "pass_at_k",
    "pictures",
    "pixel_accuracy",
    "pretrain",
    "program_log_probs",
    "prune",
    "random_task",
    "recombine",
    "report",
    "rivals",
    "sample",
    "save_weights",
    "select_all",
    "select_best",
    "select_diverse",
    "shorten",
    "show",
    "stats",
    "wilson_interval",
]
