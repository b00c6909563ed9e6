"""A simulated cluster: the reference loop with many workers in one process."""

from sooner.cluster._cluster import ClusterRun, train_cluster

__all__ = ["ClusterRun", "train_cluster"]
