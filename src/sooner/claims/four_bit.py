"""Weights of 15 values per layer train to the accuracy of float32, and a soft clip is said to be why."""

from dataclasses import replace
from functools import cache
from typing import Any

from sooner import loop
from sooner.claims._claim import Claim, Criterion, Measured, Measurement
from sooner.claims._findings import Findings
from sooner.claims._regimes import images_regime
from sooner.claims.tasks import digits_noisy
from sooner.precision._rounded import Rounded, packed_bytes
from sooner.precision.four_bit import FourBit
from sooner.task import derived_seed, from_module

ARMS = {
    "float32": ("", (5e-4,)),
    "4 bits": ("four_bit(clip=None) + ", (5e-4,)),
    "4 bits, clip": ("four_bit + ", (5e-4,)),
    "4 bits, decay": ("four_bit(clip=None) + ", (0.05, 0.5)),
    "2 bits": ("four_bit(bits=2, clip=None) + ", (5e-4,)),
}
"""The beginning of a recipe, and what is tried as weight decay."""
RATES = (3e-3, 1e-2, 3e-2)
NETS = {"plain": digits_noisy.plain, "normalised": digits_noisy.normalised}
TUNED = 50_000
"""The seed that chooses learning rate and decay; the reported seeds are others."""
ACCURACY = "accuracy"
SIZE = "size"


def run(net: str, arm: str, rate: float, decay: float, seed: int, steps: int) -> loop.Run:
    """Return a run of one arm, in the paper's order: norm cut off at 0.5, step, soft clip."""
    task = replace(from_module(digits_noisy, "digits_noisy"), model=NETS[net])
    recipe = f"clip_norm(max_norm=0.5) + {ARMS[arm][0]}adamw(lr={rate}, weight_decay={decay}) + cosine"
    return loop.train(task, recipe, seed, steps, evaluate_at=[steps])


@cache
def tuned(net: str, arm: str, steps: int) -> tuple[float, float]:
    """Return the learning rate and decay with the lowest loss on the tuning seed."""
    tried = {
        (rate, decay): run(net, arm, rate, decay, TUNED, steps).metrics[-1]["loss"]
        for rate in RATES
        for decay in ARMS[arm][1]
    }
    return min(tried, key=lambda one: tried[one] if tried[one] == tried[one] else float("inf"))


def train(net: str, arm: str, seed: int, steps: int) -> dict[str, Any]:
    """Return the error and the loss at the end, and how many values the layer with the most has."""
    rate, decay = tuned(net, arm, steps) if steps > 20 else (RATES[0], ARMS[arm][1][0])
    done = run(net, arm, rate, decay, seed, steps)
    layers = [m for m in done.model.modules() if isinstance(m, Rounded)]
    values = max((len(layer.rounded_weight().unique()) for layer in layers), default=0)  # type: ignore[no-untyped-call]
    return {**done.metrics[-1], "values": values, "rate": rate, "decay": decay}


def size(net: str) -> dict[str, Any]:
    """Return the bytes of a network whose layers are packed, as a share of those in float32."""
    model = NETS[net](derived_seed(0, "init"))
    whole = packed_bytes(model)
    FourBit(model)
    return {"share": packed_bytes(model) / whole}


def _behind(f: Findings, net: str, arm: str) -> Measured:
    """Return how many points an arm's error may be above float32's: the upper end of the paired 95 % interval."""
    found = f.paired_difference(ACCURACY, "error", {"net": net, "arm": arm}, {"net": net, "arm": "float32"}, "pt")
    if found.high is None or found.low is None:
        return replace(found, undecided=found.undecided or "there is no interval")
    return Measured(100 * found.high, unit="pt")


def _points(f: Findings, arm: str) -> Measured:
    """Return how many points an arm's error is above float32's without normalisation."""
    cases = {"net": "plain"}
    found = f.paired_difference(ACCURACY, "error", {**cases, "arm": arm}, {**cases, "arm": "float32"}, "pt")
    low, high = (None if end is None else 100 * end for end in (found.low, found.high))
    return replace(found, value=100 * found.value, low=low, high=high)


def _loss(f: Findings, net: str, arm: str, against: str) -> Measured:
    return f.paired_ratio(ACCURACY, "loss", {"net": net, "arm": arm}, {"net": net, "arm": against})


CASES = [
    {"net": net, "arm": arm, "seed": seed, "steps": 300}
    for net in NETS
    for arm in ARMS
    for seed in range(8)
    if arm != "2 bits" or net == "plain"
]
SMALL = [
    {"net": net, "arm": arm, "seed": seed, "steps": 2}
    for net in NETS
    for arm in ARMS
    for seed in range(1)
    if arm != "2 bits" or net == "plain"
]

CLAIM = Claim(
    part="four_bit",
    paper="true-4bit-tanh",
    headline=(
        "Convolutional networks whose weights have 15 values per layer train to within 0.2 points of float32, thanks "
        "to a soft tanh clip, without which they lose 4.9 points."
    ),
    source="Tathe, 2026, arXiv 2603.13931, abstract, and the ablation in its published text",
    experiment=(
        "Small convolutional networks, without and with batch normalisation, read noisy digits: in float32, with 4 "
        "bits per weight, with the soft clip, and with tuned weight decay in its place. With 2 bits the set-up has to "
        "show a loss."
    ),
    baseline=(
        "Float32 with the same norm clip, AdamW and cosine; every arm at the best of three rates on a seed of its own."
    ),
    experiments={
        ACCURACY: Measurement(train, CASES, SMALL),
        SIZE: Measurement(size, [{"net": net} for net in NETS], [{"net": net} for net in NETS]),
    },
    criteria=[
        Criterion(
            "without normalisation 4 bits with the clip are at most 1.0 point of accuracy behind float32 (upper end "
            "of the "
            "95 % interval over eight paired seeds)",
            lambda f: _behind(f, "plain", "4 bits, clip"),
            at_most=1.0,
            paper="0.16 points",
        ),
        Criterion(
            "so they are with batch normalisation",
            lambda f: _behind(f, "normalised", "4 bits, clip"),
            at_most=1.0,
            paper="0.16 points",
        ),
        Criterion(
            "the clip is what does it: without normalisation the loss with it is below the loss without",
            lambda f: _loss(f, "plain", "4 bits, clip", "4 bits"),
            at_most=1.0,
            gain=True,
            paper="4.9 points of accuracy",
        ),
        Criterion(
            "so it is with batch normalisation",
            lambda f: _loss(f, "normalised", "4 bits, clip", "4 bits"),
            at_most=1.0,
            gain=True,
            paper="4.9 points of accuracy",
        ),
        Criterion(
            "no layer has more than 15 values at the end of a run",
            lambda f: f.largest(ACCURACY, "values", arm="4 bits, clip"),
            at_most=15,
            paper="15",
        ),
        Criterion(
            "packed, the network without normalisation takes at most 0.14x of its bytes",
            lambda f: f.mean(SIZE, "share", "x", net="plain"),
            at_most=0.14,
            paper="0.125x",
        ),
        Criterion(
            "the set-up can see a loss: 2 bits are at least 1.0 point behind float32",
            lambda f: _points(f, "2 bits"),
            at_least=1.0,
            control=True,
            positive=True,
        ),
    ],
    trend={
        "4 bits without clip over float32, loss": lambda f: _loss(f, "plain", "4 bits", "float32"),
        "the same, normalised": lambda f: _loss(f, "normalised", "4 bits", "float32"),
        "clip over tuned decay, loss": lambda f: _loss(f, "plain", "4 bits, clip", "4 bits, decay"),
        "the same with normalisation": lambda f: _loss(f, "normalised", "4 bits, clip", "4 bits, decay"),
        "packed, normalised": lambda f: f.mean(SIZE, "share", "x", net="normalised"),
    },
    regime=images_regime(
        "VGG-like networks on CIFAR-10 and CIFAR-100, AdamW with cosine, 150 passes",
        "AdamW with cosine from random weights, as there; 300 steps",
        optimizer="AdamW",
        schedule="cosine to zero",
    ),
    minutes=6,
    limits=(
        "300 steps on 1,347 images of 8x8 pixels; the paper trains 150 epochs of CIFAR-10, where the clip's decay has "
        "two hundred times as many steps to act."
    ),
)
