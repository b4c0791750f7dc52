"""Settings of the tests that adapt: whoever shares them shares their compiled program."""

from herjax.learning.config import AdaptConfig

CONFIG = AdaptConfig(
    programs=(12, 4), temperatures=(1.0, 0.5), minibatch=4, max_epochs=6, max_draws=6
)
PLAIN = AdaptConfig.plain(
    programs=(24, 8), temperatures=(1.0, 0.5), minibatch=4, max_epochs=6, max_draws=6
)
