"""Procedures around the laws: what limits a run, what its tasks do, when it diverges, what theory says."""
