"""The network: its passes, its sampler, its weights. Imports ``dsl``, ``runtime``, ``tasks``."""
