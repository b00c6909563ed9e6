"""How weights move: optimizers, each a `torch.optim.Optimizer` written as a chain of rules.

Classes load on first use, so importing this package is cheap: ``sooner.update.Muon(model)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.update.adabelief import AdaBelief
    from sooner.update.adagrad_norm import AdaGradNorm
    from sooner.update.adamp import AdamP
    from sooner.update.adamuon import AdaMuon
    from sooner.update.adamw import AdamW
    from sooner.update.adan import Adan
    from sooner.update.ademamix import AdEMAMix
    from sooner.update.all_round import AllRound
    from sooner.update.apollo import APOLLO
    from sooner.update.apollo_mini import APOLLOMini
    from sooner.update.diffgrad import DiffGrad
    from sooner.update.grad_norm_smooth import GradNormSmooth
    from sooner.update.hyperball import Hyperball
    from sooner.update.kl_shampoo import KLShampoo
    from sooner.update.leap_verify import LeapVerify
    from sooner.update.lion import Lion
    from sooner.update.mars import MARS
    from sooner.update.muon import Muon
    from sooner.update.nadamw import NAdamW
    from sooner.update.normalized_gd import NormalizedGD
    from sooner.update.normalized_logistic_gd import NormalizedLogisticGD
    from sooner.update.normuon import NorMuon
    from sooner.update.prodigy import Prodigy
    from sooner.update.root import ROOT
    from sooner.update.schedule_free_adamw import ScheduleFreeAdamW
    from sooner.update.schedule_free_sgd import ScheduleFreeSGD
    from sooner.update.sgd import SGD
    from sooner.update.sgd_sai import SGDSaI
    from sooner.update.sgdp import SGDP
    from sooner.update.soap import SOAP
    from sooner.update.softmax_ghosts import SoftmaxGhosts
    from sooner.update.sophia_g import SophiaG
    from sooner.update.sophia_h import SophiaH

__all__ = [
    "APOLLO",
    "MARS",
    "ROOT",
    "SGD",
    "SGDP",
    "SOAP",
    "APOLLOMini",
    "AdEMAMix",
    "AdaBelief",
    "AdaGradNorm",
    "AdaMuon",
    "AdamP",
    "AdamW",
    "Adan",
    "AllRound",
    "DiffGrad",
    "GradNormSmooth",
    "Hyperball",
    "KLShampoo",
    "LeapVerify",
    "Lion",
    "Muon",
    "NAdamW",
    "NorMuon",
    "NormalizedGD",
    "NormalizedLogisticGD",
    "Prodigy",
    "SGDSaI",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "SoftmaxGhosts",
    "SophiaG",
    "SophiaH",
]


def __getattr__(name: str) -> Any:
    from sooner.part import class_named

    return class_named("update", name)
