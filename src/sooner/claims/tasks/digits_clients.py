"""The perceptron of `digits_workers`, with the training images divided among clients by class, Dirichlet 0.3.

As `digits_federated`, but without convolutions, which take longer for many clients at once.
"""

from sooner.claims.tasks.digits_workers import batches, fingerprint, loss, metrics, model
from sooner.workloads.digits_federated import Client

__all__ = ["batches", "evaluations", "fingerprint", "loss", "metric", "metrics", "model", "shards", "steps"]

steps = 160
metric = "loss"
evaluations = 16


def shards(worker: int, workers: int, seed: int) -> Client:
    """Return the training data of one client; how they are divided depends on `seed`."""
    return Client(worker, workers, seed)
