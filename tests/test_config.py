import dataclasses

import pytest
from absl import flags

from herjax.commands.flags import define_flags, read_flags
from herjax.learning.config import AdaptConfig
from herjax.learning.pretraining import PretrainConfig
from herjax.runtime.config import from_dict


def parse(config, *arguments):
    values = flags.FlagValues()
    define_flags(config, values=values)
    values(["program", *arguments])
    return read_flags(config, values)


def test_flags_replace_what_is_given_and_keep_the_rest():
    assert parse(PretrainConfig()) == PretrainConfig()
    config = parse(
        PretrainConfig(),
        "--model.width=64",
        "--muon_lr=0.5",
        "--size_limits=50,100",
        "--steps=9",
        "--snapshots=",
    )
    assert config == dataclasses.replace(
        PretrainConfig(),
        model=dataclasses.replace(PretrainConfig().model, width=64),
        muon_lr=0.5,
        size_limits=(50, 100),
        steps=9,
        snapshots=(),
    )
    assert parse(AdaptConfig(), "--nonovelty", "--greedy").novelty is False
    assert parse(AdaptConfig(), "--temperatures=0.5").temperatures == (0.5,)


@pytest.mark.parametrize("argument", ["--programs=1,x", "--programs=1.5", "--temperatures=,"])
def test_malformed_tuples_are_refused(argument):
    with pytest.raises(ValueError, match=f"{argument}: expected (int|float)s separated by commas"):
        parse(AdaptConfig(), argument)


def test_from_dict_is_the_inverse_of_asdict():
    config = PretrainConfig(steps=7, snapshots=())
    assert from_dict(PretrainConfig(), dataclasses.asdict(config)) == config
