"""What any JAX program needs: devices, checkpoints, files, compiled programs.

Imports nothing else of herjax.
"""
