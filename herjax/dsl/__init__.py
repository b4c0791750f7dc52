"""The drawing language: calls, programs, tokens, source. Imports nothing else of herjax."""
