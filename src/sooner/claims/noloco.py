"""Pairs of workers that mix do nearly as well as averages of all of them, and nobody waits for more than one."""

import math
from typing import Any

import torch

from sooner.claims._claim import Claim, Criterion, Measured, Measurement
from sooner.claims._findings import Findings
from sooner.claims._regimes import images_regime
from sooner.claims._tuned import best_rate, run_of

SILENT, LOCAL, DILOCO, PAIRS, LOOSE = (
    f"adamw + {part}"
    for part in (
        "silent",
        "local_sgd(every=10)",
        "diloco(every=10, lr=0.7, momentum=0.5)",
        "noloco(every=10)",
        "noloco(every=10, pull=0.0)",
    )
)
ARMS = (SILENT, LOCAL, DILOCO, PAIRS, LOOSE)


def trained(arm: str, seed: int, steps: int, workers: int) -> dict[str, Any]:
    """Return the mean loss of single replicas, that of their average, and how far they are apart."""
    rate = best_rate("digits_workers", arm, steps, workers)
    run = run_of("digits_workers", arm, rate, seed, steps, workers)
    size = math.sqrt(sum(float(p.detach().square().sum()) for p in run.model.parameters()))
    return {
        "replicas": run.replicas[-1],
        "average": run.values[-1],
        "spread": math.sqrt(run.consensus[-1]) / size,
        "bytes": run.traffic.wire_bytes,
        "rate": rate,
    }


def waiting(seed: int, workers: int, spread: float) -> dict[str, Any]:
    """Return the time of an all-reduce by recursive doubling over that of one exchange of a pair, log-normal each."""
    generator = torch.Generator().manual_seed(seed)
    trials, at = 200, torch.arange(workers)
    done = torch.zeros(trials, workers, dtype=torch.float64)
    pair = torch.zeros(1)
    for level in range(workers.bit_length() - 1):
        partner = at ^ (1 << level)
        messages = (spread * torch.randn(trials, workers, generator=generator, dtype=torch.float64)).exp()
        takes = torch.maximum(messages, messages[:, partner])  # both halves of an exchange have to arrive
        pair = takes.mean() if level == 0 else pair
        done = torch.maximum(done, done[:, partner]) + takes
    return {"ratio": float(done.amax(1).mean() / pair)}


def _over(f: Findings, key: str, new: str, base: str) -> Measured:
    return f.paired_ratio("trained", key, {"arm": new}, {"arm": base})


CLAIM = Claim(
    part="noloco",
    paper="noloco",
    headline="Without any all-reduce up to 4 % faster than DiLoCo, and syncs ten times as fast with hundreds.",
    source="Kolehmainen et al., 2025, arXiv 2506.10911, abstract",
    experiment=(
        "A perceptron is trained on digits by eight workers with outer steps every 10 of 100 steps: mean loss of the "
        "replicas and how far they are apart. Beside it, a simulation of log-normal message times (deviation 0.5 of "
        "the logarithm): an all-reduce by recursive doubling against one exchange of a pair."
    ),
    baseline="DiLoCo with the same outer learning rate and momentum; learning rates tuned alike on a seed of its own.",
    experiments={
        "trained": Measurement(
            trained,
            [{"arm": arm, "seed": seed, "steps": 100, "workers": 8} for arm in ARMS for seed in range(6)],
            [{"arm": arm, "seed": seed, "steps": 10, "workers": 2} for arm in ARMS for seed in range(1)],
        ),
        "waiting": Measurement(
            waiting,
            [{"seed": seed, "workers": n, "spread": 0.5} for n in (16, 256) for seed in range(3)],
            [{"seed": seed, "workers": n, "spread": 0.5} for n in (16, 256) for seed in range(1)],
        ),
    },
    criteria=[
        Criterion(
            "mean loss of the replicas at most 1.1x of DiLoCo's",
            lambda f: _over(f, "replicas", PAIRS, DILOCO),
            at_most=1.1,
            paper="0.96x",
        ),
        Criterion(
            "replicas at most 0.3x as far apart as without the pull",
            lambda f: _over(f, "spread", PAIRS, LOOSE),
            at_most=0.3,
            gain=True,
        ),
        Criterion(
            "with 256 workers an all-reduce takes at least 5x as long as an exchange",
            lambda f: f.mean("waiting", "ratio", "x", workers=256),
            at_least=5.0,
            paper="10x",
        ),
        Criterion(
            "that ratio is at least 1.5x of the one with 16 workers",
            lambda f: f.paired_ratio("waiting", "ratio", {"workers": 256}, {"workers": 16}),
            at_least=1.5,
        ),
        Criterion(
            "it communicates: replicas end at most 0.9x as high as without",
            lambda f: _over(f, "replicas", PAIRS, SILENT),
            at_most=0.9,
            gain=True,
            control=True,
            positive=True,
        ),
    ],
    trend={
        "average model over DiLoCo's": lambda f: _over(f, "average", PAIRS, DILOCO),
        "replicas over local SGD's": lambda f: _over(f, "replicas", PAIRS, LOCAL),
        "bytes over DiLoCo's": lambda f: _over(f, "bytes", PAIRS, DILOCO),
    },
    regime=images_regime(
        "OPT models of 125M to 6.8B parameters on C4 and Reddit, hundreds of workers, warm-up and cosine",
        "outer steps of pairs from random weights, as there; ten outer steps",
        optimizer="AdamW",
    ),
    minutes=1,
    limits="Ten outer steps; the time of a sync is a model.",
)
