"""Models that average gradients over workers themselves, so that nobody else has to."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sooner.execute.shards import is_sharded


def averages_itself(model: nn.Module) -> bool:
    """Whether the model averages its gradients over workers while backward runs: DDP and FSDP2 do."""
    wrapped = any(isinstance(m, DistributedDataParallel) for m in model.modules())
    return wrapped or any(is_sharded(p) for p in model.parameters())
