"""Procedures around the laws: what limits a run, what its tasks do, when it diverges, and what theory says beforehand."""
