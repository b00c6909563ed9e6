"""Workers that train only their own experts get as far as workers that train and send everything."""

from typing import Any

from sooner.claims._claim import Claim, Criterion, Measured, Measurement
from sooner.claims._findings import Findings
from sooner.claims._regimes import images_regime
from sooner.claims._tuned import best_rate, run_of
from sooner.race.targets import confirmed_crossing

LOCAL, SPLIT, MERGED, SILENT = (
    f"adamw + {part}"
    for part in (
        "local_sgd(every=10)",
        "spes(every=10, merge=0.0)",
        "spes(every=10, merge_every=10, merge_until=50)",
        "silent",
    )
)
ARMS = (LOCAL, SPLIT, MERGED, SILENT)
EARLY = 1.0
"""Loss that counts as early progress; at the start it is 2.3."""


def trained(arm: str, seed: int, steps: int, workers: int) -> dict[str, Any]:
    """Return the final loss, steps to the early one, optimizer bytes of a worker and the bytes it sends."""
    rate = best_rate("digits_experts", arm, steps, workers)
    run = run_of("digits_experts", arm, rate, seed, steps, workers)
    return {
        "loss": run.values[-1],
        "early": confirmed_crossing(run.steps, run.values, EARLY),
        "state": run.state_bytes,
        "bytes": run.traffic.wire_bytes,
        "rate": rate,
    }


def _over(f: Findings, key: str, new: str, base: str) -> Measured:
    return f.paired_ratio("trained", key, {"arm": new}, {"arm": base})


CLAIM = Claim(
    part="spes",
    paper="spes",
    headline="Nodes that train only their own experts pretrain as well as centralized runs, with less memory.",
    source="'Pretraining a large language model using distributed GPUs', 2026, arXiv 2602.11543, abstract",
    experiment=(
        "A network with eight experts, two of which answer, is trained on digits by four workers with syncs every 10 "
        "of 100 steps: final loss, steps to a loss of 1, optimizer state and bytes, with and without merging early."
    ),
    baseline="Local SGD of the whole model at the same interval; learning rates tuned alike on a seed of its own.",
    experiments={
        "trained": Measurement(
            trained,
            [{"arm": arm, "seed": seed, "steps": 100, "workers": 4} for arm in ARMS for seed in range(6)],
            [{"arm": arm, "seed": 0, "steps": 10, "workers": 2} for arm in ARMS],
        )
    },
    criteria=[
        Criterion(
            "final loss at most 1.02x of local SGD's",
            lambda f: _over(f, "loss", MERGED, LOCAL),
            at_most=1.02,
            paper="1x",
        ),
        Criterion(
            "at most 0.5x of the optimizer state per worker",
            lambda f: _over(f, "state", MERGED, LOCAL),
            at_most=0.5,
        ),
        Criterion(
            "at most 0.7x of the bytes that leave a worker",
            lambda f: _over(f, "bytes", MERGED, LOCAL),
            at_most=0.7,
        ),
        Criterion(
            "merging speeds up the start: at most 0.95x of the steps to a loss of 1",
            lambda f: _over(f, "early", MERGED, SPLIT),
            at_most=0.95,
            gain=True,
        ),
        Criterion(
            "it communicates: it ends at most 0.8x as high as workers that never do",
            lambda f: _over(f, "loss", MERGED, SILENT),
            at_most=0.8,
            gain=True,
            control=True,
            positive=True,
        ),
    ],
    trend={"without merging, final loss": lambda f: _over(f, "loss", SPLIT, LOCAL)},
    regime=images_regime(
        "mixtures of experts of 2 to 9 billion parameters on hundreds of billions of tokens, AdamW, decayed rates",
        "experts on nodes of their own from random weights, as there; digits and ten syncs",
        optimizer="AdamW",
    ),
    minutes=2,
    limits="Images, not language; the experts hold six parts in seven of this network.",
)
