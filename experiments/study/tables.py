"""What the study asks: each table is rows of settings, blocks of pictures, seeds and budgets.

Every row of a table samples as many programs for each picture: its budget, or fewer if it solves.
"""

import dataclasses
from typing import NamedTuple

from herjax.decoder.weights import BASE
from herjax.dsl.canonical import program_as_said, pruned_program
from herjax.learning.config import AdaptConfig
from herjax.learning.selection import (
    keep_all,
    keep_first,
    order_reversed,
    order_shuffled,
    select_all,
    select_diverse,
)

SCALES = ("small", "full")
# Learning rates that every learner is tried with, on pictures that are in no other table.
RATES = (2e-4, 6e-4, 2e-3, 6e-3)
LEARNERS = (
    "hindsight",
    "self-training",
    "hindsight+self-training",
    "longer-dream",
    "grpo",
    "rloo",
    "entropic",
    "max-at-k",
)
UNTRAINED = "untrained"  # the shape of base, random weights
MODELS = (BASE, "base-10", "base-weak-1", "base-weak-2", "base-weak-3", UNTRAINED)
TUNING = (
    *(f"tuning-{i}" for i in range(4)),
    *(f"tuning-{kind}-{i}" for kind in ("grid", "even") for i in range(2)),
)
STRIPES = ("9-vertical-lines",)
SQUARES = ("12-squares", "16-squares", "25-squares")
PLAIN = AdaptConfig.plain()
DEFAULT = AdaptConfig()
UNADAPTED = AdaptConfig.plain(
    programs=(256,), temperatures=(1.0,), min_distinct=0.0, colour_permutations=False
)


class Row(NamedTuple):
    """One way to adapt."""

    name: str
    config: AdaptConfig = DEFAULT
    learner: str = "hindsight"
    model: str = BASE  # a shipped one, or untrained
    trials: "Table | None" = None  # where its learning rate was chosen


class Block(NamedTuple):
    """Pictures with equal seeds and budget."""

    pictures: tuple[str, ...]
    seeds: int
    budget: int  # programs sampled


# What plain HER and what the default draw in seconds, but not at once.
OF_PLAIN = (Block((*STRIPES, "12-squares", "16-squares"), 20, 1_344),)
OF_DEFAULT = (Block(("25-squares", "chick"), 20, 672),)


class Table(NamedTuple):
    """A question, and the runs that answer it."""

    name: str
    question: str
    rows: tuple[Row, ...]
    blocks: tuple[Block, ...]
    baseline: str | None = None  # the row that others are compared with
    held_out: int = 0  # of so many seeds: held-out pass@8 before and after
    samples: bool = False  # programs of the unadapted model, an epoch at a time


def changed(config: AdaptConfig, **changes: object) -> AdaptConfig:
    """The settings with some changed; the number of epochs follows from the budget."""
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


# Trains on the best programs of all epochs again and again.
REPLAY = Row("replay of the kept", changed(DEFAULT, novelty=False, keep=16))


def with_trials(config: AdaptConfig, trials: Table) -> tuple[Row, ...]:
    """A row a learner, with the rate that its trials chose, and the two that have none."""
    learners = [Row(name, config, name, trials=trials) for name in LEARNERS]
    return (
        *learners,
        Row("grpo-solved", config, "grpo-solved"),
        Row("no learning", config, "best-of-n"),
    )


def trial_rows(config: AdaptConfig) -> tuple[Row, ...]:
    """Every learner at every rate."""
    return tuple(
        Row(f"{name} {rate:g}", changed(config, learning_rate=rate), name)
        for name in LEARNERS
        for rate in RATES
    )


def tables(scale: str) -> dict[str, Table]:
    """All tables by name, in the order in which they are made."""
    small = scale == "small"
    listed = [*_pictures(small), *_steps(small), *_rivals(small)]
    return {table.name: table for table in listed}


def _pictures(small: bool) -> list[Table]:
    """The model, the pictures."""
    ten = (*STRIPES, "9-squares", "overlapping-squares", *SQUARES, "20-squares", "chick")
    large = tuple(f"{n}-squares" for n in (36, 49, 64, 81, 100))
    largest = ("196-squares", "225-squares")
    return [
        Table(
            "support",
            "Is the picture outside the base's reach at all, without learning?",
            (Row("temperature 1", UNADAPTED),),
            (
                Block(ten, 1, 65_536),
                Block(large[:3], 1, 4_096 if small else 65_536),
                Block(large[3:], 1, 1_024 if small else 65_536),
            ),
            samples=True,
        ),
        Table(
            "her",
            "Does the default solve every named picture, and what does the model forget?",
            (Row("default"),),
            (
                Block(ten, 20, 960),
                Block(large, 10 if small else 20, 960),
                *(() if small else (Block(largest, 10, 960),)),
            ),
            held_out=3,
        ),
        Table(
            "reach",
            "What does each way draw, of equally many programs?",
            (
                Row("default"),
                Row("plain HER", PLAIN),
                Row("recombination, no learning", DEFAULT, "best-of-n"),
            ),
            (Block(ten, 10, 960), Block(large, 10, 192), Block(largest, 5 if small else 10, 192)),
            baseline="default",
        ),
        Table(
            "weaker",
            "How good must the base be?",
            tuple(Row(name, model=name) for name in MODELS),
            (Block((*STRIPES, *SQUARES), 20, 672),),
            baseline=BASE,
        ),
        Table(
            "weaker-plain",
            "How good must the base be for plain HER?",
            tuple(Row(name, PLAIN, model=name) for name in MODELS),
            OF_PLAIN,
            baseline=BASE,
        ),
    ]


def _steps(small: bool) -> list[Table]:
    """What each step of the default is worth."""
    stages, augmentations = _stage_tables(), _augmentation_tables()
    sampling = [_sampling(small), *([] if small else [_sampling_plain()])]
    return [_reward(), *stages, *sampling, _learning(), *augmentations, _memory(small)]


def _reward() -> Table:
    """Order and choice."""
    return Table(
        "reward",
        "Plain HER: is the reward needed, for the order or for the choice?",
        (
            Row("best, sorted", PLAIN),
            Row("best, shuffled", changed(PLAIN, order=order_shuffled)),
            Row("best, reversed", changed(PLAIN, order=order_reversed)),
            Row("diverse, sorted", changed(PLAIN, select=select_diverse)),
            Row("all, sorted", changed(PLAIN, select=select_all)),
            Row("all, shuffled", changed(PLAIN, select=select_all, order=order_shuffled)),
        ),
        OF_PLAIN,
        baseline="best, sorted",
    )


def _stage_tables() -> list[Table]:
    """The steps of an epoch."""
    return [
        Table(
            "stages",
            "Which step of an epoch matters?",
            (
                Row("default"),
                *_stages(DEFAULT),
            ),
            OF_DEFAULT,
            baseline="default",
        ),
        Table(
            "stages-plain",
            "Which step of an epoch matters to plain HER?",
            (Row("plain HER", PLAIN), *_stages(PLAIN)),
            OF_PLAIN,
            baseline="plain HER",
        ),
    ]


def _sampling(small: bool) -> Table:
    """Exploration."""
    return Table(
        "sampling",
        "How many programs an epoch, how hot?",
        (
            Row("12 an epoch, 0.9"),
            *(
                Row(
                    f"{n} an epoch, 0.9",
                    changed(DEFAULT, programs=(n,), partners=min(15, n + 3)),
                )
                for n in ((4, 32, 96, 224) if small else (4, 8, 32, 96, 224))
            ),
            *(
                Row(f"12 an epoch, {t:g}", changed(DEFAULT, temperatures=(t,)))
                for t in (0.5, 0.7, 1.1, 1.3)
            ),
            Row("6 at 0.6, 6 at 1.2", changed(DEFAULT, programs=(6, 6), temperatures=(0.6, 1.2))),
        ),
        OF_DEFAULT,
        baseline="12 an epoch, 0.9",
    )


def _sampling_plain() -> Table:
    """Exploration of plain HER, as the source has it: many or few an epoch, hot and cold."""
    counts = [
        Row(f"{n} an epoch, 0.9", changed(PLAIN, programs=(n,)))
        for n in (32, 4, 8, 16, 64, 128, 256)
    ]
    heats = [Row(f"32 an epoch, {t:g}", changed(PLAIN, temperatures=(t,))) for t in (0.5, 1.2)]
    mixed = changed(PLAIN, programs=(2, 30), temperatures=(0.1, 0.9))
    return Table(
        "sampling-plain",
        "How many programs an epoch does plain HER need, how hot?",
        (*counts, *heats, Row("2 at 0.1, 30 at 0.9", mixed)),
        tuple(block._replace(budget=1_280) for block in OF_PLAIN),
        baseline="32 an epoch, 0.9",
    )


def _learning() -> Table:
    """Collapse."""
    return Table(
        "learning",
        "How much learning, and when do the samples collapse?",
        (
            Row("default"),
            *(Row(f"rate {r:g}", changed(DEFAULT, learning_rate=r)) for r in (6e-4, 1e-3, 4e-3)),
            *(Row(f"{n} passes", changed(DEFAULT, passes=n)) for n in (2, 4)),
            Row("best half, not quarter", changed(DEFAULT, fraction=0.5)),
            REPLAY,
            Row("4 fresh tasks a minibatch", changed(DEFAULT, fresh=4)),
        ),
        OF_DEFAULT,
        baseline="default",
    )


def _augmentation_tables() -> list[Table]:
    """The augmentations."""

    def rows(config: AdaptConfig) -> dict[str, Row]:
        kinds = {"both": (1, 1), "colours": (1, 0), "symmetries": (0, 1), "none": (0, 0)}
        return {
            name: Row(name, changed(config, colour_permutations=bool(c), symmetries=bool(s)))
            for name, (c, s) in kinds.items()
        }

    return [
        Table(
            "augmentation",
            "Is augmentation helpful?",
            tuple(rows(DEFAULT).values()),
            (
                Block(("16-squares", "25-squares", "chick"), 20, 672),
                Block(("49-squares", "100-squares"), 10, 192),
            ),
            baseline="both",
        ),
        Table(
            "augmentation-plain",
            "Is augmentation helpful, to plain HER?",
            tuple(rows(PLAIN).values()),
            OF_PLAIN,
            baseline="colours",
        ),
    ]


def _memory(small: bool) -> Table:
    """Partners, kept programs, and learning."""
    return Table(
        "memory",
        "What extends the reach, search or learning?",
        _memory_rows(),
        (
            Block(("25-squares",), 20, 672),
            Block(("49-squares", "100-squares"), 10, 192 if small else 672),
            *(() if small else (Block(("36-squares", "64-squares"), 10, 672),)),
        ),
        baseline="15 partners, 4 kept",
    )


def _stages(config: AdaptConfig) -> tuple[Row, ...]:
    """A row each without one of the steps."""
    return (
        Row("first program of a picture", changed(config, distinct=keep_first)),
        Row("every program of a picture", changed(config, distinct=keep_all)),
        Row("without novelty", changed(config, novelty=False)),
        Row("pruned, not canonical", changed(config, rewrite=pruned_program)),
        Row("as said, not pruned", changed(config, rewrite=program_as_said)),
        Row("without heat", changed(config, min_distinct=0.0)),
    )


def _memory_rows() -> tuple[Row, ...]:
    def row(partners: int, keep: int, **changes: object) -> Row:
        name = f"{partners} partners, {keep} kept" + (", no learning" if changes else "")
        return Row(name, changed(DEFAULT, partners=partners, keep=keep, **changes))

    return (
        row(15, 4),
        *(row(partners, 4) for partners in (1, 4, 8)),
        row(11, 0),
        *(row(min(31, 11 + keep), keep) for keep in (1, 20)),
        Row("no partners", changed(DEFAULT, partners=0)),
        row(15, 4, learning_rate=0.0),
        row(11, 0, learning_rate=0.0),
        row(31, 20, learning_rate=0.0),
        REPLAY,
        Row("two passes", changed(DEFAULT, passes=2)),
    )


def _rivals(small: bool) -> list[Table]:
    """Hindsight against what else could change the weights."""
    seeds = 2 if small else 5
    more = ("49-squares",)
    combined = Table(
        "trials-recombination",
        "Which learning rate suits each learner, with recombination?",
        trial_rows(DEFAULT),
        (Block(TUNING, seeds, 240),),
    )
    alone = Table(
        "trials",
        "Which learning rate suits each learner, without recombination?",
        trial_rows(PLAIN),
        (Block(TUNING, seeds, 480),),
    )
    return [
        combined,
        Table(
            "rivals-recombination",
            "Does reinforcement learning help, where recombination searches?",
            with_trials(DEFAULT, combined),
            (
                Block((*STRIPES, *SQUARES, "chick"), 20, 336 if small else 672),
                Block(more, 10, 192 if small else 672),
            ),
            baseline="hindsight",
        ),
        alone,
        Table(
            "rivals",
            "Does reinforcement learning help, without recombination?",
            with_trials(PLAIN, alone),
            (
                Block((*STRIPES, *SQUARES), 20, 1_344),
                *(() if small else (Block(("chick",), 20, 2_688), Block(more, 10, 2_688))),
            ),
            baseline="hindsight",
        ),
    ]
