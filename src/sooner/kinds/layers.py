"""Which modules are layers, and which of their parameters is the weight."""

from __future__ import annotations

from torch import Tensor, nn

DENSE = (nn.Linear, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)


def is_conv1d(module: nn.Module) -> bool:
    """Whether it is Hugging Face's linear layer whose weight is stored ``[in, out]``, or derived from it."""
    return any(c.__name__ == "Conv1D" for c in type(module).__mro__) and hasattr(module, "nf")


def is_weight(leaf: str, p: Tensor) -> bool:
    """Whether a parameter, by its own name, is the weight of its module, parametrized or not."""
    return p.ndim >= 2 and leaf in ("weight", "weight_v", "weight_orig", "original", "original1")
