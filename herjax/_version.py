"""The version, said once: setup.cfg reads it without importing herjax."""

__version__ = "0.1.0"
