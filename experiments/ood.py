"""How far the base is from out-of-distribution pictures: python -m experiments.ood --samples=256

Samples programs without any adaptation, and compares with the source experiment.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
from absl import flags
from rich.console import Console
from rich.table import Table

import herjax
from herjax.commands import cli
from herjax.learning.attempts import attempt
from herjax.learning.config import AdaptConfig
from herjax.runtime.files import write_atomically

SAMPLES = flags.DEFINE_integer(
    "samples", 256, "Programs for each picture.", lower_bound=1, upper_bound=100_000
)
TEMPERATURE = flags.DEFINE_float("temperature", 0.5, "Of sampling, above 0.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "base", "Shipped name, or folder with weights.")
SEED = flags.DEFINE_integer(
    "seed", 0, "Of everything random.", lower_bound=0, upper_bound=cli.MAX_SEED
)
WORKDIR = flags.DEFINE_string("workdir", "runs/ood", "Folder for ood.json.")

# Mean pixels right and best of 256, in the source experiment.
SOURCE = {
    "9-vertical-lines": (0.6532, 0.8889),
    "9-squares": (0.6455, 0.8148),
    "overlapping-squares": (0.6266, 0.9300),
}


def main(_):
    if TEMPERATURE.value <= 0:
        raise ValueError(f"--temperature must be above 0, got {TEMPERATURE.value}")
    pretrained = herjax.load_pretrained(CHECKPOINT.value)
    config = AdaptConfig.plain(
        programs=(SAMPLES.value,), temperatures=(TEMPERATURE.value,), colour_permutations=False
    )
    folder = pathlib.Path(WORKDIR.value)
    run = {
        "weights_sha256": pretrained.info["sha256"],
        "samples": SAMPLES.value,
        "temperature": TEMPERATURE.value,
        "seed": SEED.value,
    }
    cli.claim(folder, run)
    results = {}
    for name, (source_mean, source_best) in SOURCE.items():
        picture = herjax.pictures()[name]
        task = herjax.make_task(picture, max_side=pretrained.model.config.max_side)
        accuracy_of = jax.jit(
            lambda params, task, key: attempt(pretrained.model, params, task, config, key).accuracy
        )
        accuracy = accuracy_of(pretrained.params, task, jax.random.key(SEED.value))
        results[name] = {
            "mean": float(accuracy.mean()),
            "best": float(accuracy.max()),
            "solved": int(jnp.sum(accuracy == 1.0)),
            "samples": SAMPLES.value,
            "source_mean": source_mean,
            "source_best": source_best,
        }
    table = Table("picture", "mean %", "best %", "solved", "source mean %", "source best %")
    table.columns[0].no_wrap = True
    for name, row in results.items():
        percents = [f"{100 * row[k]:.2f}" for k in ("mean", "best", "source_mean", "source_best")]
        solved = f"{row['solved']} of {row['samples']}"
        table.add_row(name, percents[0], percents[1], solved, percents[2], percents[3])
    Console().print(table)
    text = json.dumps({**run, "versions": cli.versions(), "pictures": results}, indent=2) + "\n"
    write_atomically(folder / "ood.json", text.encode())


if __name__ == "__main__":
    cli.run(main)
