"""Devices that are not here: their names, what a program's text tells, and budgets (slow)."""

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest

from herjax.learning.presets import PRESETS
from herjax.learning.pretraining import microbatch_of
from herjax.runtime import devices
from herjax.runtime.compiled import collectives, host_calls
from herjax.runtime.devices import KINDS, absent_devices, parse_device
from tests.command_line import run_quickly, start


@pytest.mark.parametrize(
    ("text", "shape", "count"),
    [
        ("v5e", (1, 1), 1),
        ("v5e:4x4", (4, 4), 16),
        ("v5p:2x2x1", (2, 2, 1), 4),
        ("v6e:2x4", (2, 4), 8),
        ("h100", (1, 1), 1),
        ("h200:8", (1, 8), 8),
        ("h200:2x8", (2, 8), 16),
    ],
)
def test_parse_device(text, shape, count):
    place = parse_device(text)
    assert (place.name, place.shape, place.count) == (text.split(":")[0], shape, count)
    assert place.kind is KINDS[place.name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "v5e, v5p, v6e, h100, h200 are known"),
        ("h20", r"did you mean 'h200'\?"),
        ("v5e:", "expected v5e:NxN"),
        ("v5e:4", "expected v5e:NxN"),
        ("v5e:4x0", "expected v5e:NxN"),
        ("v5p:2x2", "expected v5p:NxNxN"),
        ("h100:-1", "expected h100:CARDS or h100:HOSTSxCARDS"),
        ("h100:1x2x8", "expected h100:CARDS or h100:HOSTSxCARDS"),
        ("h100:9", "at most 8 cards a host"),
        ("v5e:32x32", "at most 256 devices, got 1024"),
        ("v5e:" + "9" * 5000, "expected v5e:NxN"),
    ],
)
def test_bad_devices_are_refused(text, message):
    with pytest.raises(ValueError, match=message) as told:
        parse_device(text)
    assert len(str(told.value)) < 300


@pytest.mark.parametrize(("text", "extra"), [("v5e", "tpu"), ("h100:8", "cuda12")])
def test_a_compiler_that_is_missing_is_named_with_its_extra(text, extra, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"^{text.split(':')[0]}:.*'herjax\[{extra}\]'$"):
        absent_devices(parse_device(text))


def test_what_is_said_of_devices_fits_together():
    for kind in KINDS.values():
        assert kind.float32 <= kind.bfloat16
        # Hundreds of operations for each byte, and a memory that is read in 10 to 60 ms.
        assert 100 < kind.bfloat16 / kind.bandwidth < 700
        assert 0.01 < kind.memory / kind.bandwidth < 0.06
        assert kind.source.startswith("https://")
    text = devices._CARD.format(bandwidth=1, memory=2, name="X")
    assert text.count("{") == text.count("}") == 4


TEXT = """
  %all-reduce.1 = (f32[2,256]{1,0:T(8,128)}, bf16[16]{0}) all-reduce(%a, %b), to_apply=%add
  %ag = (f32[4,8]{1,0}, f32[8,8]{1,0}, u32[], u32[]) all-gather-start(f32[4,8]{1,0} %all-reduce.1)
  %ag.2 = f32[8,8]{1,0} all-gather-done(%ag)
  %rs.1 = f32[4]{0} reduce-scatter(%q), frontend_attributes={chain_id="0"}
  %rs.2 = f32[4]{0} reduce-scatter(%q), frontend_attributes={chain_id="0"}
  ROOT %collective-permute = pred[3]{0} collective-permute(pred[3]{0} %p), channel_id=1
  %fusion = f32[8]{0} fusion(%all-reduce.1), calls=%all-reduce, metadata={op_name="all-gather"}
  %x = f32[] custom-call(%y), custom_call_target="xla_ffi_python_gpu_callback"
  %z = f32[] custom-call(%y), custom_call_target="__cublas$gemm"
  %s = (f32[2]{0}, u32[], token[]) send(%y, %t), channel_id=2, is_host_transfer=true
  %i = ((f32[2]{0}), token[]) infeed(%t)
"""


def test_collectives_are_counted_with_their_bytes():
    assert collectives(TEXT) == {
        "all-reduce": {"count": 1, "bytes": 4 * 2 * 256 + 2 * 16},
        "all-gather": {"count": 1, "bytes": 4 * 8 * 8},
        "reduce-scatter": {"count": 1, "bytes": 16},
        "collective-permute": {"count": 1, "bytes": 3},
    }
    assert collectives("ENTRY %main { %x = f32[2]{0} add(%a, %b) }") == {}


def test_calls_of_the_host_are_counted():
    assert host_calls(TEXT) == 3
    assert host_calls('%c = f32[] custom-call(%y), custom_call_target="__cublas$gemm"') == 0


@pytest.mark.parametrize(
    ("platform", "data", "cells", "expected"),
    [
        ("cpu", 8, 56, 8),
        ("cpu", 8, 100, 4),
        ("cpu", 8, 900, 1),
        ("tpu", 8, 900, 128),
        ("gpu", 8, 56, 128),
    ],
)
def test_microbatches_are_those_of_the_mesh(platform, data, cells, expected):
    place = np.array([types.SimpleNamespace(platform=platform)])
    mesh = types.SimpleNamespace(devices=place, shape={"data": data})
    config = PRESETS["large"]
    assert microbatch_of(config, mesh, cells) == expected
    assert microbatch_of(dataclasses.replace(config, microbatch=16), mesh, cells) == 16
    with pytest.raises(ValueError, match="microbatch 256 does not divide 128, the programs of"):
        microbatch_of(dataclasses.replace(config, microbatch=256), mesh, cells)
    mesh.shape["data"] = 3
    with pytest.raises(ValueError, match="1024 is not a multiple of 3, the devices on data"):
        microbatch_of(config, mesh, cells)


def test_nothing_to_plan_is_one_line(tmp_path):
    code, out, err = run_quickly("plan", "--device=v5e", f"--workdir={tmp_path / 'run'}")
    assert (code, out) == (2, "")
    assert err == "error: nothing to plan: --preset plans a pretraining, --task an adaptation\n"
    assert not (tmp_path / "run").exists()


def test_a_task_needs_no_preset(tmp_path):
    """The compiler may be there or not; if it is, the task is refused after it."""
    code, out, err = run_quickly("plan", "--device=v5e", "--task=x", f"--workdir={tmp_path / 'r'}")
    assert (code, out) == (2, "")
    last = err.splitlines()[-1]  # TPU's compiler says much before
    assert last.startswith("error: ")
    assert "the compiler for TPUs is missing" in last or "unknown task 'x'" in last


def plan_module(code, *values):
    """What code prints of JSON: a process of its own, as two commands define flags of one name."""
    code = f"import json, sys; from herjax.commands import plan\n{textwrap.dedent(code)}"
    command = [sys.executable, "-c", code, *map(json.dumps, values)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout


ROW = {
    "seconds to compile": 12.4,
    "flops, each loop once": 3.5e9,
    "bytes, each loop once": None,
    "flops a byte": None,
    "memory": {"argument": 1e6, "temp": 2e9, "total": 2.001e9, "of device": 0.125},
    "collectives": {"all-reduce": {"count": 3, "bytes": 5_004_000_000}},
    "host calls": 0,
    "bound: programs/s at most": 1_234_000.0,
    "bound by": "memory",
}


def test_the_table_has_a_column_for_each_program():
    other = ROW | {"collectives": {}, "host calls": 7}
    code = """
        from rich.console import Console
        plan.show(Console(width=120), plan.parse_device("h100"), json.loads(sys.argv[1]))
    """
    text = plan_module(code, {"step": ROW, "epoch": other})
    lines = [re.split(r"\s*[│┃]\s*", line)[1:-1] for line in text.splitlines()]
    assert [line for line in lines if line] == [
        ["a device of h100:1x1", "step", "epoch"],
        ["compiled in", "12 s", "12 s"],
        ["operations, each loop once", "3.5 G", "3.5 G"],
        ["bytes, likewise", "not told", "not told"],
        ["operations a byte", "not told", "not told"],
        ["memory: argument", "0.001 GB", "0.001 GB"],
        ["memory: temp", "2.000 GB", "2.000 GB"],
        ["memory: total", "2.001 GB", "2.001 GB"],
        ["of the device's", "12.5 %", "12.5 %"],
        ["all-reduce", "3, 5,000 MB", "0, 0 MB"],
        ["calls of the host", "0", "7"],
        ["bound: programs/s, at most", "1,230,000 (memory)", "1,230,000 (memory)"],
    ]


def test_the_bound_is_that_of_what_takes_longer():
    code = """
        import jax, numpy as np
        place = plan.parse_device("h100")
        shape = jax.ShapeDtypeStruct((8, 64), np.float32)
        lower = lambda: jax.jit(lambda x: x @ x.T).lower(shape)
        for flops, moved in ((2, 4), (8, 4)):  # seconds
            least = flops * place.kind.float32, moved * place.kind.bandwidth
            row = plan.report(plan.Planned("it", lower, 100, *least, "float32"), place)
            print(json.dumps(row))
    """
    memory, arithmetic = map(json.loads, plan_module(code).splitlines()[1::2])
    assert (memory["bound by"], memory["bound: programs/s at most"]) == ("memory", 25)
    assert (arithmetic["bound by"], arithmetic["bound: programs/s at most"]) == ("arithmetic", 12.5)
    held = memory["memory"]
    assert (held["argument"], held["output"]) == (4 * 8 * 64, 4 * 8 * 8)
    kinds = held["argument"] + held["output"] - held["alias"] + held["temp"]
    assert held["total"] == kinds + held["generated_code"]
    assert held["of device"] == held["total"] / KINDS["h100"].memory


# ---- Budgets: with the compilers of the devices -------------------------------------------------

HAS = {
    "tpu": importlib.util.find_spec("libtpu") is not None,
    "gpu": any(importlib.util.find_spec(f"jax_cuda{n}_plugin") for n in (12, 13)),
}
PRETRAINING = {
    "v5e:2x2": ["--preset=base-10", "--model.dtype=bfloat16"],
    "v5e:4x4": ["--preset=large", "--mesh=data:8,model:2", "--model.dtype=bfloat16"],
    "v5e": ["--preset=large", "--model.dtype=bfloat16"],
    "v6e": ["--preset=base-10", "--model.dtype=bfloat16"],
    "h100": ["--preset=base-10", "--model.dtype=bfloat16"],
    "h200": ["--preset=large", "--model.dtype=bfloat16"],
    "h200:8": ["--preset=large", "--mesh=data:4,model:2", "--model.dtype=bfloat16"],
}
POPULATIONS = {
    "v5e:2x2": ["--members=16"],
    "v5e:4x4": ["--members=16"],
    "v6e": ["--members=16"],
    "h100": ["--members=1"],
    "h200": ["--members=256"],
    "h200:8": ["--members=64"],
}


def planned(folder, device, *arguments):
    """What plan.json tells of each program."""
    if not HAS[KINDS[device.split(":")[0]].platform]:
        pytest.skip(f"no compiler for {device} is installed")
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS" and "CACHE" not in k}
    process = start(
        "plan", f"--device={device}", f"--workdir={folder}", *arguments, environment=environment
    )
    _, err = process.communicate(timeout=3600)
    assert process.returncode == 0, err
    return json.loads((folder / "plan.json").read_text())["programs"]


def check(row, device):
    assert row["host calls"] == 0
    assert row["memory"]["total"] < KINDS[device.split(":")[0]].memory


@pytest.mark.slow
@pytest.mark.parametrize("device", PRETRAINING)
def test_pretraining_keeps_its_budget(device, tmp_path):
    rows = planned(tmp_path / "plan", device, *PRETRAINING[device])
    assert list(rows) == ["pretraining step", "sampler"]
    for row in rows.values():
        check(row, device)
    step = set(rows["pretraining step"]["collectives"])
    assert step == ({"all-reduce"} if ":" in device else set())
    if device == "h200":
        assert rows["pretraining step"]["memory"]["temp"] < 2e9


@pytest.mark.slow
@pytest.mark.parametrize("device", POPULATIONS)
def test_a_population_does_not_communicate(device, tmp_path):
    arguments = ["--task=25-squares", "--dtype=bfloat16", *POPULATIONS[device]]
    (row,) = planned(tmp_path / "plan", device, *arguments).values()
    check(row, device)
    assert row["collectives"] == {}
