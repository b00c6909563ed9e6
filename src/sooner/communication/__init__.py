"""What crosses the wire: codecs, memories, outer steps, local steps and cohorts, over a simulated or a real network.

Classes load on first use, so importing this package is cheap: ``sooner.communication.TopK(ratio=0.01)``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.communication._exchange import Exchange
    from sooner.communication._group import Group
    from sooner.communication._wire import Sim, Wire
    from sooner.communication.bf16 import BF16
    from sooner.communication.dense import Dense
    from sooner.communication.ef import EF
    from sooner.communication.fp16 import FP16
    from sooner.communication.local_sgd import LocalSGD
    from sooner.communication.silent import Silent
    from sooner.communication.top_k import TopK
    from sooner.layout import Layout

__all__ = [
    "BF16",
    "EF",
    "FP16",
    "Dense",
    "Exchange",
    "Group",
    "Layout",
    "LocalSGD",
    "Silent",
    "Sim",
    "TopK",
    "Wire",
]

_HOMES = {"Exchange": "_exchange", "Group": "_group", "Layout": "_exchange", "Sim": "_wire", "Wire": "_wire"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"sooner.communication.{_HOMES[name]}"), name)
    from sooner.part import class_named

    return class_named("communication", name)
