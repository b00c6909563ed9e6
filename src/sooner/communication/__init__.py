"""What crosses the wire: codecs, memories, outer steps, local steps and cohorts, over a simulated or a real network.

Classes load on first use, so importing this package is cheap: ``sooner.communication.TopK(ratio=0.01)``.
`FlowerStrategy` and `flower_answer` need Flower (``pip install 'sooner[flower]'``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.communication._attached import Communication
    from sooner.communication._ddp import DDPBuckets
    from sooner.communication._doubts import doubts
    from sooner.communication._exchange import Exchange
    from sooner.communication._fsdp import FSDPReplicas
    from sooner.communication._group import Group
    from sooner.communication._torchft import TorchFT
    from sooner.communication._wire import Sim, Wire
    from sooner.communication.afa_cd import AFACD
    from sooner.communication.afa_cs import AFACS
    from sooner.communication.anarchic import Anarchic
    from sooner.communication.bf16 import BF16
    from sooner.communication.co2 import CO2
    from sooner.communication.curriculum import Curriculum
    from sooner.communication.dense import Dense
    from sooner.communication.dgc import DGC
    from sooner.communication.diloco import DiLoCo
    from sooner.communication.econtrol import EControl
    from sooner.communication.ef import EF
    from sooner.communication.ef21 import EF21
    from sooner.communication.ef21_momentum import EF21Momentum
    from sooner.communication.ef21_w import EF21W
    from sooner.communication.fedhyper import FedHyper
    from sooner.communication.fedhyper_clients import FedHyperClients
    from sooner.communication.fedspeed import FedSpeed
    from sooner.communication.fp16 import FP16
    from sooner.communication.full import Full
    from sooner.communication.gossip import Gossip
    from sooner.communication.int8 import Int8
    from sooner.communication.local_sgd import LocalSGD
    from sooner.communication.noloco import NoLoCo
    from sooner.communication.powersgd import PowerSGD
    from sooner.communication.proximal import Proximal
    from sooner.communication.random_k import RandomK
    from sooner.communication.sam import SAM
    from sooner.communication.sampled import Sampled
    from sooner.communication.sign import Sign
    from sooner.communication.silent import Silent
    from sooner.communication.snoo import SNOO
    from sooner.communication.spes import SPES
    from sooner.communication.streaming_diloco import StreamingDiLoCo
    from sooner.communication.top_k import TopK
    from sooner.foundation.layout import Layout

__all__ = [
    "AFACD",
    "AFACS",
    "BF16",
    "CO2",
    "DGC",
    "EF",
    "EF21",
    "EF21W",
    "FP16",
    "SAM",
    "SNOO",
    "SPES",
    "Anarchic",
    "Communication",
    "Curriculum",
    "DDPBuckets",
    "Dense",
    "DiLoCo",
    "EControl",
    "EF21Momentum",
    "Exchange",
    "FSDPReplicas",
    "FedHyper",
    "FedHyperClients",
    "FedSpeed",
    "Full",
    "Gossip",
    "Group",
    "Int8",
    "Layout",
    "LocalSGD",
    "NoLoCo",
    "PowerSGD",
    "Proximal",
    "RandomK",
    "Sampled",
    "Sign",
    "Silent",
    "Sim",
    "StreamingDiLoCo",
    "TopK",
    "TorchFT",
    "Wire",
    "doubts",
]

_HOMES = {
    "TorchFT": "_torchft",
    "Communication": "_attached",
    "DDPBuckets": "_ddp",
    "Exchange": "_exchange",
    "FSDPReplicas": "_fsdp",
    "FlowerStrategy": "_flower",
    "Group": "_group",
    "Layout": "_exchange",
    "Sim": "_wire",
    "Wire": "_wire",
    "doubts": "_doubts",
    "flower_answer": "_flower",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"sooner.communication.{_HOMES[name]}"), name)
    from sooner.part import class_named

    return class_named("communication", name)
