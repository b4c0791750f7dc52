"""Make the runs of a table that are not there yet, as populations; one JSON line a run."""

import dataclasses
import datetime
import hashlib
import json
import pathlib
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import herjax
from experiments.study.tables import UNTRAINED, Block, Row, Table
from herjax.commands import cli
from herjax.commands.flags import FUNCTIONS, to_json
from herjax.decoder.weights import BASE, Pretrained
from herjax.learning.attempts import attempt
from herjax.learning.config import AdaptConfig
from herjax.learning.population import CHUNK, Population, by_canvas
from herjax.learning.presets import PretrainConfig
from herjax.learning.pretraining import evaluate, init_params
from herjax.learning.result import Result
from herjax.runtime import processes, program_cache, records
from herjax.runtime.sharding import make_mesh
from herjax.tasks.random import TaskConfig
from herjax.tasks.suite import Picture, pictures, tuning_pictures
from herjax.tasks.task import Task, canvas_side, pad_task

SLOTS = 8  # members in flight: what a kill loses
HELD_OUT = 256  # tasks


class Study:
    """The lines of all tables in a folder."""

    def __init__(self, folder: pathlib.Path, say: Any):
        self.folder, self.say = folder, say
        self.named: dict[str, Picture] = {**pictures(), **tuning_pictures()}
        self.stopwatch = cli.Stopwatch()
        device = jax.devices()[0].device_kind
        self.about = {"commit": commit(), "device": device, "jax": jax.__version__}
        folder.mkdir(parents=True, exist_ok=True)

    def lines(self, table: Table) -> list[dict]:
        """The runs of a table that are there, of the settings that it has now."""
        valid = {}
        for row in table.rows:
            if row.trials and not self.has_trials(row):
                continue
            for block in table.blocks:
                settings = settings_hash(self.settled(row, block), row, block)
                mine = (settings, block.seeds)
                valid.update({(row.name, picture): mine for picture in block.pictures})
        found = records.read_lines(self.folder / f"{table.name}.jsonl")
        places = [valid.get((line["row"], line["picture"]), ("", 0)) for line in found]
        return [
            line
            for line, (settings, seeds) in zip(found, places)
            if line["settings"] == settings and line["seed"] < seeds
        ]

    def has_trials(self, row: Row) -> bool:
        """Are all trials of the learning rate of this row's learner there?"""
        assert row.trials is not None
        wanted = sum(len(block.pictures) * block.seeds for block in row.trials.blocks)
        return all(len(lines) == wanted for lines in self._trials(row).values())

    def _trials(self, row: Row) -> dict[float, list[dict]]:
        """The trials of this row's learner, by their learning rate."""
        assert row.trials is not None
        lines = self.lines(row.trials)
        return {
            trial.config.learning_rate: [line for line in lines if line["row"] == trial.name]
            for trial in row.trials.rows
            if trial.learner == row.learner
        }

    def chosen_rate(self, row: Row) -> float:
        """The rate with which the tuning pictures took fewest programs; then the more accurate.

        Raises:
          ValueError: if a trial is missing.
        """
        assert row.trials is not None
        if not self.has_trials(row):
            raise ValueError(f"{row.learner} needs its trials first: --table={row.trials.name}")

        def cost(rate: float) -> tuple[float, float]:
            lines = trials[rate]
            sampled = [line["sampled"] for line in lines]
            return float(np.mean(sampled)), -float(np.mean([line["accuracy"] for line in lines]))

        trials = self._trials(row)
        return min(trials, key=cost)

    def settled(self, row: Row, block: Block) -> AdaptConfig:
        """The settings of a row, with the rate of its trials and the epochs of the budget."""
        config = row.config
        epochs, rest = divmod(block.budget, config.sampled)
        if rest:
            raise ValueError(f"{row.name}: {block.budget} is no multiple of {config.sampled}")
        if row.trials:
            config = dataclasses.replace(config, learning_rate=self.chosen_rate(row))
        return dataclasses.replace(config, max_epochs=epochs)

    def make(self, table: Table) -> None:
        """Make every run of a table that is not there."""
        done = {(line["row"], line["picture"], line["seed"]) for line in self.lines(table)}
        for row in table.rows:
            for block in table.blocks:
                jobs = [
                    (picture, seed)
                    for picture in block.pictures
                    for seed in range(block.seeds)
                    if (row.name, picture, seed) not in done
                ]
                if not table.samples and not table.held_out:
                    jobs = self._without_known(table, row, block, jobs)
                if jobs:
                    self._make_row(table, row, block, jobs)

    def _without_known(
        self, table: Table, row: Row, block: Block, jobs: list[tuple[str, int]]
    ) -> list[tuple[str, int]]:
        """Copy the lines of runs that another table has made with equal settings; -> the rest."""
        settings = settings_hash(self.settled(row, block), row, block)
        known = {
            (line["picture"], line["seed"]): line
            for path in sorted(self.folder.glob("*.jsonl"))
            for line in records.read_lines(path)
            if line["settings"] == settings
        }
        for job in jobs:
            if job in known:
                line = known[job] | {"table": table.name, "row": row.name}
                self._append(table, line)
        return [job for job in jobs if job not in known]

    def _append(self, table: Table, line: dict[str, Any]) -> None:
        if processes.is_first():
            records.append(self.folder / f"{table.name}.jsonl", line)

    def _make_row(self, table: Table, row: Row, block: Block, jobs: list[tuple[str, int]]) -> None:
        config = self.settled(row, block)
        settings, decoder = settings_hash(config, row, block), decoder_of(row.model)
        shapes = [self.named[picture].target.shape for picture, _ in jobs]
        for members in by_canvas(shapes, decoder.model.config.max_side):
            mine = [jobs[i] for i in members]
            made = (
                self._sampled(config, decoder, mine)
                if table.samples
                else self._adapted(row.learner, config, decoder, mine, table.held_out)
            )
            for line in made:
                line = {
                    "table": table.name,
                    "row": row.name,
                    **line,
                    "budget": block.budget,
                    "settings": settings,
                    **self.about,
                    "date": datetime.date.today().isoformat(),
                }
                self._append(table, line)
            different = len({picture for picture, _ in mine})
            self.say(f"{table.name}: {row.name}: {len(mine)} runs of {different} pictures")
            program_cache.clear()

    def _task(self, picture: str) -> Task:
        chosen = self.named[picture]
        return herjax.make_task(chosen)

    def _adapted(
        self,
        learner: str,
        config: AdaptConfig,
        decoder: Pretrained,
        jobs: list[tuple[str, int]],
        held_out_seeds: int,
    ) -> Iterator[dict]:
        """Adaptations as one population; of some seeds, what else the model can do after it."""
        keys = jnp.stack([jax.random.key(seed) for _, seed in jobs])
        population = Population(
            decoder,
            [self._task(picture) for picture, _ in jobs],
            keys,
            config,
            learner=FUNCTIONS["learner"][learner],
            mesh=make_mesh({"data": min(len(jax.devices()), len(jobs)), "model": 1}),
            slots=SLOTS,
        )
        seconds, epochs = np.zeros(len(jobs)), np.zeros(len(jobs), int)
        before = held_out(decoder) if held_out_seeds else None
        self.stopwatch.lap()
        while not population.done:
            advances = population.advance(CHUNK)
            running, _ = self.stopwatch.lap()
            which, now = [a.member for a in advances], np.array([a.epoch for a in advances])
            new = now - epochs[which]
            seconds[which] += running * new / max(new.sum(), 1)
            epochs[which] = now
            for advance in advances:
                if advance.ended is None:
                    continue
                picture, seed = jobs[advance.member]
                result = population.result(advance)
                line = {"picture": picture, "seed": seed, **summary_of(result, config)}
                line["seconds"] = round(float(seconds[advance.member]), 3)
                if before and seed < held_out_seeds:
                    line |= {"held_out_before": before, "held_out_after": held_out(result.adapted)}
                yield line
            self.stopwatch.lap()  # this is nobody's share

    def _sampled(
        self, config: AdaptConfig, decoder: Pretrained, jobs: list[tuple[str, int]]
    ) -> Iterator[dict]:
        """Programs of the unadapted decoder, as many an epoch."""
        run = jax.jit(
            lambda params, task, key: attempt(decoder.model, params, task, config, key).accuracy
        )
        for picture, seed in jobs:
            task = self._task(picture)
            task = pad_task(task, canvas_side(task.target.shape, decoder.model.config.max_side))
            key = jax.random.key(seed)
            chunks = [
                np.asarray(run(decoder.params, task, jax.random.fold_in(key, i)))
                for i in range(config.max_epochs)
            ]
            first, accuracy = chunks[0], np.concatenate(chunks)
            yield {
                "picture": picture,
                "seed": seed,
                "samples": len(accuracy),
                "correct": int(np.sum(accuracy == 1.0)),
                "correct_of_first": int(np.sum(first == 1.0)),
                "first": len(first),
                "accuracy": round(float(accuracy.max()), 4),
                "best_of_first": round(float(first.max()), 4),
                "mean_accuracy": round(float(accuracy.mean()), 4),
            }


@cache
def decoder_of(model: str) -> Pretrained:
    """A model by the name that a row gives it."""
    if model != UNTRAINED:
        return herjax.load_pretrained(model)
    base = decoder_of(BASE)
    params = jax.jit(init_params, static_argnums=0)(base.model.config, jax.random.key(0))
    return Pretrained(base.model, params, {"sha256": UNTRAINED})


def summary_of(result: Result, config: AdaptConfig) -> dict[str, Any]:
    """What a line tells of an adaptation; see ``report``."""
    history = result.history
    tail = history[-max(len(history) // 4, 1) :]
    best = np.maximum.accumulate([float(epoch.accuracy.max()) for epoch in history])
    return {
        "solved": result.solved,
        "sampled": config.sampled * len(history),
        "run": int(sum(epoch.run for epoch in history)),
        "epochs": len(history),
        "accuracy": round(float(best[-1]), 4),
        "draws": len(result.program),
        "distinct": round(float(np.mean([e.distinct / config.programs_an_epoch for e in tail])), 4),
        "best": [round(float(value), 4) for value in best],
        "length": [round(float(epoch.draws), 2) for epoch in history],
    }


def held_out(decoder: Pretrained) -> float:
    """pass@8 on random tasks on blank inputs, of all sizes that it has."""
    side = decoder.model.config.max_side
    limits = (100, 200, 400, side**2)[: 1 + 2 * (side > 10) + (side > 20)]
    config = PretrainConfig(
        model=decoder.model.config, tasks=TaskConfig(max_side=side), size_limits=limits
    )
    return round(evaluate(decoder, config, HELD_OUT)["pass@8"], 4)


def settings_hash(config: AdaptConfig, row: Row, block: Block) -> str:
    """A few digits that stand for all that a line depends on but picture and seed."""
    model = decoder_of(row.model).info["sha256"][:8]
    settings = to_json(config)
    if settings["optimizer"] == "adam":  # as it always was, before there was another
        del settings["optimizer"]
    told = json.dumps([settings, row.learner, model, block.budget])
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def commit() -> str:
    """The commit of the checkout, with a + if its code differs from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "herjax", "experiments")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return f"herjax {herjax.__version__}"
