"""Row norms of DoRA from small factors: less memory and time than peft's layers, and the same numbers."""

import copy
import statistics as standard
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from sooner.adapter._factored import factored_norm
from sooner.claims._claim import Claim, Criterion, Measurement, Regime
from sooner.foundation.seeded import seeded
from sooner.task import derived_seed
from sooner.workloads import charlm

LAYER = "one layer"
HALF = "half precision"
CURVE = "fine-tuning"


def layers(width: int, rank: int, seed: int) -> tuple[nn.Module, nn.Module]:
    """Return a DoRA layer of peft over a linear one ``[width, width]``, and its copy with factored norms."""
    import peft

    from sooner.adapter import factored_dora

    with seeded(seed):
        config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, use_dora=True, target_modules=["0"])
        theirs: nn.Module = peft.get_peft_model(nn.Sequential(nn.Linear(width, width, bias=False)), config)
        for name, p in theirs.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(p, std=0.02)
    ours = copy.deepcopy(theirs)
    factored_dora(ours)
    return theirs, ours


def transient(act: Callable[[], object]) -> int:
    """Return the most bytes that are allocated at one time while `act` runs, above what there was before (CPU)."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        kept = act()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    del kept
    return most


def cost(width: int, rank: int, tokens: int, rounds: int, seed: int) -> dict[str, Any]:
    """Return peft over factored: transient bytes of a forward, and processor time of forward, and with backward.

    Times are medians of ratios of neighbouring blocks, the two taking turns. Beside them, the largest difference of the
    outputs, relative to their norm.
    """
    pair = layers(width, rank, seed)
    x = torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed))

    def both(model: nn.Module) -> None:
        torch.autograd.backward(model(x).square().mean())

    outputs = [model(x).detach() for model in pair]
    bytes_taken = [transient(lambda model=model: model(x)) for model in pair]  # type: ignore[misc]
    found: dict[str, list[float]] = {"forward": [], "both": []}
    for _ in range(rounds):
        for name, act in (("forward", lambda model: model(x)), ("both", both)):
            taken = []
            for model in pair:
                begun = time.process_time()
                act(model)
                taken.append(time.process_time() - begun)
            found[name].append(taken[0] / taken[1])
    return {
        "bytes": bytes_taken[0] / bytes_taken[1],
        "mebibytes": [one / 2**20 for one in bytes_taken],
        **{name: standard.median(ratios) for name, ratios in found.items()},
        "difference": float((outputs[0] - outputs[1]).norm() / outputs[0].norm()),
    }


def norms(width: int, rank: int, seed: int) -> dict[str, Any]:
    """Return the relative error of the norms of a bfloat16 layer, factored over peft's way; float64 is the truth."""
    with seeded(seed):
        w = (torch.randn(width, width) / width**0.5).bfloat16()
        a, b = torch.randn(rank, width).bfloat16() / width**0.5, 0.1 * torch.randn(width, rank).bfloat16()
    truth = (w.double() + 2 * b.double() @ a.double()).norm(dim=1)
    dense = torch.linalg.norm(w + 2 * (b @ a), dim=1)
    factored = factored_norm(w, a, b, 2.0).to(w.dtype)
    errors = [float(((one.double() - truth) / truth).abs().max()) for one in (factored, dense)]
    return {"factored": errors[0], "dense": errors[1]}


def curve(seed: int, steps: int) -> dict[str, Any]:
    """Return the largest difference of two loss curves, a small GPT fine-tuned through peft and through us."""
    import peft

    from sooner.adapter import factored_dora

    losses: list[Tensor] = []
    for factored in (False, True):
        with seeded(seed):
            config = peft.LoraConfig(r=8, use_dora=True, target_modules="all-linear")
            model = peft.get_peft_model(charlm.model(derived_seed(seed, "init")), config)
            if factored:
                factored_dora(model)
        batches = charlm.batches(derived_seed(seed, "order"), "train")
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
        curve = torch.zeros(steps)
        for step in range(steps):
            loss = charlm.loss(model, batches[step])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            curve[step] = loss.detach()
        losses.append(curve)
    return {"difference": float((losses[0] - losses[1]).abs().max()), "fell": float(losses[0][0] - losses[0][-1])}


def _ranks(f: Any) -> list[int]:
    return sorted({case["case"]["rank"] for case in f.found[LAYER]["cases"]})


def _large(f: Any) -> dict[str, int]:
    return {"rank": _ranks(f)[-1]}


CLAIM = Claim(
    part="dora",
    paper="dora-factored",
    headline=(
        "The row norms of DoRA from small factors make the dense product needless: up to 7 GB less memory, 1.5 to 2.0x "
        "faster inference and 1.5 to 1.9x faster gradients than peft, at the same losses."
    ),
    source="sockeye44/dorafactors, 2026, README",
    experiment=(
        "One linear layer of width 2048 and rank 256 sees 128 tokens, through peft's DoRA and through the same module "
        "with factored norms, in turn on one thread. A small GPT is fine-tuned through both. Norms in bfloat16 are "
        "compared with float64."
    ),
    baseline="Hugging Face's peft as installed, in training mode.",
    experiments={
        LAYER: Measurement(
            cost,
            [{"width": 2048, "rank": 256, "tokens": 128, "rounds": 7, "seed": seed} for seed in range(3)]
            + [{"width": 2048, "rank": 16, "tokens": 128, "rounds": 5, "seed": 0}],
            [
                {"width": 64, "rank": 8, "tokens": 4, "rounds": 1, "seed": 0},
                {"width": 64, "rank": 4, "tokens": 4, "rounds": 1, "seed": 0},
            ],
            timed=True,
        ),
        HALF: Measurement(
            norms,
            [{"width": 2048, "rank": 64, "seed": seed} for seed in range(3)],
            [{"width": 64, "rank": 4, "seed": 0}],
        ),
        CURVE: Measurement(curve, [{"seed": 0, "steps": 200}], [{"seed": 0, "steps": 1}]),
    },
    criteria=[
        Criterion(
            "peft's forward takes at least 3x of the memory for a while (rank 256)",
            lambda f: f.smallest(LAYER, "bytes", "x", **_large(f)),
            at_least=3.0,
        ),
        Criterion(
            "peft's forward takes at least 1.2x of the time (rank 256)",
            lambda f: f.smallest(LAYER, "forward", "x", **_large(f)),
            at_least=1.2,
            paper="1.5 to 2.0x",
        ),
        Criterion(
            "peft's forward and backward take at least 1.2x of the time (rank 256)",
            lambda f: f.smallest(LAYER, "both", "x", **_large(f)),
            at_least=1.2,
            paper="1.5 to 1.9x",
        ),
        Criterion(
            "outputs in float32 differ by at most 1e-6 of their norm",
            lambda f: f.largest(LAYER, "difference"),
            at_most=1e-6,
        ),
        Criterion(
            "norms in bfloat16 are no further from float64 than peft's",
            lambda f: f.columns_ratio(HALF, "factored", "dense"),
            at_most=1.0,
        ),
        Criterion(
            "losses of 200 steps differ by at most 1e-4",
            lambda f: f.largest(CURVE, "difference"),
            at_most=1e-4,
            paper="7.1e-4 over 2000 steps",
        ),
        Criterion(
            "these steps train: the loss falls by at least 0.1",
            lambda f: f.smallest(CURVE, "fell"),
            at_least=0.1,
            control=True,
            positive=True,
        ),
    ],
    trend={
        "memory, rank 16": lambda f: f.mean(LAYER, "bytes", "x", rank=_ranks(f)[0]),
        "forward, rank 16": lambda f: f.mean(LAYER, "forward", "x", rank=_ranks(f)[0]),
    },
    regime=Regime(
        "adapters of rank 384 on language models of 8 to 32 billion parameters in bfloat16 on accelerators",
        "AdamW",
        "constant, from the first step on",
        "batches of text",
        "the same layers, narrower and on one processor",
        start="a random model, adapters of zero",
    ),
    minutes=2,
    limits="One thread of a CPU; fused kernels for accelerators are no part of it.",
    extra="peft",
)
