"""Whoever watches a training run, a race, a claim or a simulated cluster: one protocol, and sinks for trackers.

sooner.train(task, "muon + cosine", watch="trackio")
sooner.race(task, "adamw; muon + cosine", watch=["jsonl:race.jsonl", MyWatch()])

A watch never changes a number, and one that fails is told of once and left out: training goes on.
"""

from sooner.watch._sink import Sink
from sooner.watch._watch import Cell, Several, Watch, Within
from sooner.watch.named import NAMES, watching

__all__ = ["NAMES", "Cell", "Several", "Sink", "Watch", "Within", "watching"]
