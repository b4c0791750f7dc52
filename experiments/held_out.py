"""pass@1 and pass@8 on held-out random tasks, by size: python -m experiments.held_out

The tasks are random ones, drawn apart from those of any pretraining, of each range of sides and
kind of input. Small canvases have so few pictures that a long pretraining meets some of them.
"""

import json
import pathlib

from absl import flags
from rich.console import Console
from rich.table import Table

import herjax
from herjax.commands import cli
from herjax.learning.presets import PretrainConfig
from herjax.learning.pretraining import evaluate
from herjax.runtime.files import write_atomically
from herjax.tasks.random import TaskConfig

CHECKPOINT = flags.DEFINE_string("checkpoint", "base", "Shipped names or folders, with commas.")
SIDES = flags.DEFINE_list("sides", ["3-10", "11-20", "21-30"], "Ranges of height and width, cells.")
TASKS = flags.DEFINE_integer(
    "tasks", 512, "Of each range.", lower_bound=1, upper_bound=cli.MAX_SEED
)
TEMPERATURE = flags.DEFINE_float("temperature", 0.5, "Of sampling, from 0.", lower_bound=0)
WORKDIR = flags.DEFINE_string("workdir", "runs/held-out", "Folder for held_out.json.")
INPUTS = {"blank": 0.0, "drawn": 1.0}  # shares of drawn inputs


def parse_sides(text: str) -> tuple[int, int]:
    """``"3-10"`` as (3, 10).

    Raises:
      ValueError: if it is no range of sides.
    """
    low, dash, high = text.partition("-")
    if not (dash and low.isdecimal() and high.isdecimal() and 1 <= int(low) <= int(high)):
        raise ValueError(f"--sides are ranges such as 3-10, got {text[:40]!r}")
    return int(low), int(high)


def main(_):
    ranges = [parse_sides(text) for text in SIDES.value]
    models = {name: herjax.load_pretrained(name) for name in CHECKPOINT.value.split(",")}
    found = []
    for name, pretrained in models.items():
        model, info = pretrained.model, pretrained.info
        own = (info.get("pretraining") or {}).get("tasks", {})
        like = {field: own[field] for field in ("max_draws", "ops") if field in own}
        if own.get("program", "uniform") != "uniform":
            cli.say(f"{name} was pretrained on programs of {own['program']}; these are random ones")
        for low, high in ranges:
            if high > model.config.max_side:
                cli.say(f"left out: {name} knows sides up to {model.config.max_side}, not {high}")
                continue
            for inputs, share in INPUTS.items():
                tasks = TaskConfig(low, high, drawn_inputs=share, **like)
                config = PretrainConfig(
                    model=model.config, tasks=tasks, size_limits=(high**2,), size_shares=()
                )
                rates = evaluate(pretrained, config, TASKS.value, temperature=TEMPERATURE.value)
                row: dict = {"model": name, "sides": f"{low}-{high}", "inputs": inputs, **rates}
                found.append({**row, "sha256": info["sha256"]})
                cli.say(cli.short(row))
    if not found:
        raise ValueError(f"nothing to measure: no model knows --sides={','.join(SIDES.value)}")
    table = Table("model", "sides", "inputs", "pass@1", "pass@8", "tasks")
    for row in found:
        shares = [f"{row[key]:.3f}" for key in ("pass@1", "pass@8")]
        table.add_row(row["model"], row["sides"], row["inputs"], *shares, str(row["tasks"]))
    Console().print(table)
    how = {"temperature": TEMPERATURE.value, "versions": cli.versions(), "held_out": found}
    text = json.dumps(how, indent=2) + "\n"
    folder = pathlib.Path(WORKDIR.value)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "held_out.json", text.encode())


if __name__ == "__main__":
    cli.run(main)
