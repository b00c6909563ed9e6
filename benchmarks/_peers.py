"""Optimizers of other packages, to be timed beside ours. All are optional: those that are installed take part."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import io
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

VERSIONS = {
    "torch": "",
    "pytorch_optimizer": "pytorch_optimizer==4.1.0",
    "heavyball": "heavyball==3.2.1",
    "timm": "timm==1.0.31",
    "schedulefree": "schedulefree==1.4.1",
    "adabelief_pytorch": "adabelief-pytorch==0.2.1",
}
"""Per module what to install; the versions are those that this file was written for."""


@dataclass(frozen=True)
class Peer:
    """One optimizer of another package.

    Attributes:
        name: as the tables print it.
        module: what is imported.
        make: from the imported module and the model, the optimizer, ready to step.
    """

    name: str
    module: str
    make: Callable[[Any, nn.Module], Optimizer]

    def build(self, model: nn.Module) -> Optimizer:
        """Return the optimizer for a model that has its gradients."""
        with contextlib.redirect_stdout(io.StringIO()):  # one of them prints advice when it is made
            return self.make(_load(self.module), model)


def _simple(name: str, module: str, /, **settings: Any) -> Peer:
    """Return the peer called ``PACKAGE CLASS (what is special)``, made with these settings."""
    label = "p_o" if module == "pytorch_optimizer" else module
    class_name = name.split()[0]

    def make(package: Any, model: nn.Module) -> Optimizer:
        home = package.optim if module == "torch" else package
        made: Optimizer = getattr(home, class_name)(model.parameters(), **settings)
        getattr(made, "train", lambda: None)()  # schedulefree wants to be told
        return made

    return Peer(f"{label} {name}", module, make)


def _sophia(package: Any, model: nn.Module) -> Optimizer:
    """The steps between two estimates of the Hessian, which cost other passes through the model."""
    made: Optimizer = package.SophiaH(model.parameters(), update_period=10**9)
    made.step(hessian=[p.grad.square() for p in model.parameters()])  # type: ignore[call-arg, union-attr]
    return made


ELEMENT = [
    _simple("AdamW (default)", "torch", lr=1e-3),
    _simple("AdamW (foreach)", "torch", lr=1e-3, foreach=True),
    _simple("SGD (momentum, fused)", "torch", lr=1e-3, momentum=0.9, fused=True),
    _simple("AdaBelief", "adabelief_pytorch", lr=1e-3, print_change_log=False),
    _simple("AdaBelief", "pytorch_optimizer", lr=1e-3),
    _simple("AdamP", "pytorch_optimizer", lr=1e-3),
    _simple("SGDP", "pytorch_optimizer", lr=1e-3, momentum=0.9),
    _simple("DiffGrad", "pytorch_optimizer", lr=1e-3),
    _simple("SGDSaI", "pytorch_optimizer", lr=1e-3),
    Peer("p_o SophiaH (no new Hessian)", "pytorch_optimizer", _sophia),
    _simple("AdaBelief", "timm", lr=1e-3, rectify=False),
    _simple("AdamP", "timm", lr=1e-3),
    _simple("SGDP", "timm", lr=1e-3, momentum=0.9),
    _simple("AdamWScheduleFree", "schedulefree", lr=1e-3),
    _simple("AdamW (compiled)", "heavyball", lr=1e-3),
]
"""For `update_step.py`. torch's own are there always."""

COMPILED = [
    Peer(
        "p_o AdaBelief (compiled)",
        "pytorch_optimizer",
        lambda package, model: package.create_optimizer(model, "adabelief", lr=1e-3, compile=True),
    ),
    _simple("AdamW (compiled)", "heavyball", lr=1e-3),
]
"""For `first_step.py`: those that compile before their first step."""


def installed(peers: list[Peer]) -> list[Peer]:
    """Return those that are installed, and print which are not and what would install them."""
    missing = list(dict.fromkeys(p.module for p in peers if importlib.util.find_spec(p.module) is None))
    if missing:
        names = " ".join(VERSIONS[module] for module in missing)
        print(f"not installed: {', '.join(missing)}; to have them beside ours: pip install --no-deps {names}")
    return [p for p in peers if p.module not in missing]


@functools.cache
def _load(module: str) -> Any:
    if module == "timm":  # its optimizers alone: the models would import a torchvision that fits this torch exactly
        spec = importlib.util.find_spec("timm")
        package, models = types.ModuleType("timm"), types.ModuleType("timm.models")
        package.__path__ = list(spec.submodule_search_locations)  # type: ignore[union-attr, arg-type]
        package.__spec__ = spec
        models.group_parameters = None  # type: ignore[attr-defined]
        sys.modules.update({"timm": package, "timm.models": models})
        return importlib.import_module("timm.optim")
    return torch if module == "torch" else importlib.import_module(module)
