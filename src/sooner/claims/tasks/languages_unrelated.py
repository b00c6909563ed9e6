"""The two languages of `languages` with nothing in common, 20,000 and 250 sentences.

Neither helps the other, and the rare one is too large to be learned by heart in the time given.
"""

from sooner.task import Examples, Passes
from sooner.workloads.languages import evaluations, examples_of, loss, metric, metrics, model, provides, steps

__all__ = ["batches", "evaluations", "examples", "loss", "metric", "metrics", "model", "provides", "steps"]


def examples(split: str) -> Examples:
    """Return the sentences of a split, with the language as domain."""
    return examples_of((20_000, 250), 0.0, split)


batches = Passes(examples)
