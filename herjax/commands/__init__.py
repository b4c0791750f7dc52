"""The command lines, which ``herjax_commands.py`` beside the package starts. Imports all wings.

``import herjax`` does not load them.
"""
