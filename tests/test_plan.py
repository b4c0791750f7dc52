"""Devices that are not here: their names, what a program's text tells, and budgets (slow)."""

import dataclasses
import importlib.util
import json
import os
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
