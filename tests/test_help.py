"""Every option and every field explains itself, once: in the docstring of the configuration."""

import dataclasses
import re

import pytest

from herjax.commands.flags import _attributes
from herjax.decoder.embedding import ModelConfig
from herjax.learning.config import AdaptConfig
from herjax.learning.presets import PretrainConfig
from herjax.tasks.random import TaskConfig
from tests.command_line import run_quickly

CONFIGS = [AdaptConfig(), PretrainConfig(), ModelConfig(), TaskConfig()]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_every_field_is_explained(config):
    told = _attributes(config)
    assert list(told) == [field.name for field in dataclasses.fields(config)]
    for name, text in told.items():
        assert len(text.split()) >= 2, f"{name}: {text}"
        assert text.endswith("."), f"{name}: {text}"
        assert not text.startswith("likewise"), f"{name} is explained by what stands elsewhere"


@pytest.mark.parametrize(
    "module", ["her_adapt", "pretrain", "ood", "bench", "plan", "show", "study"]
)
def test_help_exits_with_0_and_explains_every_option(module):
    code, out, err = run_quickly(module, "--help")
    assert (code, err) == (0, "")
    options = re.split(r"^  --", out, flags=re.MULTILINE)[1:]
    assert len(options) >= 4
    assert ("\n  --mesh: " in out) == (module in ("her_adapt", "pretrain", "plan", "study"))
    for option in options:
        name, _, text = option.partition(": ")
        told = " ".join(re.sub(r"<[^>]*>: ", "", text.split("\n    (")[0]).split())
        assert len(told.split()) >= 2, f"--{name}: {told}"
        assert "``" not in told
        assert re.search(r"[.:]( Default \S+)?(\n\nTry .*)?$", told) or "." in told, name
    if module in ("her_adapt", "pretrain"):
        config = AdaptConfig() if module == "her_adapt" else PretrainConfig()
        words = " ".join(out.split())
        for name, text in _attributes(config).items():
            if not dataclasses.is_dataclass(getattr(config, name)):
                plain = text.replace("`", "")
                # Lines are broken at hyphens, too.
                squeezed = (plain[1:] + " ").replace(" ", "").replace("-", "")
                assert squeezed in words.replace(" ", "").replace("-", ""), name
