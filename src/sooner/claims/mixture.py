"""A searched mixture of snapshots beats the best tuned average, and is as good as the end of a run long before it."""

import copy
import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.claims._claim import Claim, Criterion, Measurement
from sooner.claims._regimes import images_regime
from sooner.weights.mixture import Mixture

WRONG = 0.2
"""Share of wrong labels among the images that are trained on."""
SPLITS = {"train": 900, "search": 300, "check": 150, "test": 447}
BATCH = 64
KEEP = 30
CONVEX = 1000
EVALUATIONS = {"gradient": 100, "evolution": 2000}
DECAYS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
SCALES = tuple(0.2 * 1.15**i for i in range(16))
"""Of logits, from 0.2 to 1.6."""
SHARES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Points of the run at which a mixture is compared with its end."""


@cache
def data(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return images ``[N, 64]`` and labels of four splits; of those to train on some labels are wrong."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    generator = torch.Generator().manual_seed(seed)
    order = torch.split(torch.randperm(len(labels), generator=generator), list(SPLITS.values()))
    found = {}
    for name, chosen in zip(SPLITS, order, strict=True):
        y = torch.from_numpy(labels)[chosen]
        if name == "train":
            wrong = torch.rand(len(y), generator=generator) < WRONG
            y = torch.where(wrong, torch.randint(10, y.shape, generator=generator), y)
        found[name] = torch.from_numpy(images)[chosen].float() / 16, y
    return found


def loss(model: nn.Module, split: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean cross-entropy in nats."""
    return F.cross_entropy(model(split[0]), split[1])


class Run:
    """A training run by SGD; at a constant rate, or one that decays to zero."""

    def __init__(self, seed: int, steps: int, decays: bool = False) -> None:
        self.splits = data(seed)
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        self.mix = Mixture(self.model, every=max(1, steps // KEEP), keep=KEEP)
        self.steps, self._decays = steps, decays
        self._order = torch.Generator().manual_seed(seed + 1)
        self._optimizer = torch.optim.SGD(self.model.parameters(), lr=0.3, momentum=0.9)

    def advance(self, first: int, last: int) -> None:
        """Take the steps from one to another."""
        images, labels = self.splits["train"]
        for step in range(first, last):
            chosen = torch.randint(len(labels), (BATCH,), generator=self._order)
            if self._decays:
                self._optimizer.param_groups[0]["lr"] = 0.3 * (1 - step / self.steps)
            self._optimizer.zero_grad()
            torch.autograd.backward(loss(self.model, (images[chosen], labels[chosen])))
            self._optimizer.step()
            self.mix.after_step()

    def measured(self, coefficients: Tensor | None, split: str) -> float:
        """Return the loss of a mixture, or of the weights themselves, on a split."""
        with torch.no_grad():
            return float(loss(self.shown(coefficients), self.splits[split]))

    def shown(self, coefficients: Tensor | None) -> nn.Module:
        """Return a model with a mixture of the snapshots, or with the weights themselves."""
        shown = copy.deepcopy(self.model)
        if coefficients is not None:
            nn.utils.vector_to_parameters(coefficients.float() @ self.mix.ordered(), shown.parameters())
        return shown

    def search(self, method: str, evaluations: int) -> dict[str, float]:
        """Search, and return the loss of what was found, on what it was searched on and on the test images."""
        self.mix.search(
            lambda: loss(self.model, self.splits["search"]),
            evaluations,
            check=lambda: loss(self.model, self.splits["check"]),
            method=method,
        )
        with self.mix.view():
            return {split: self.measured(None, split) for split in ("search", "test")}

    def best_of(self, candidates: list[Tensor]) -> float:
        """Return the test loss of the candidate that is best on all images that a search is shown."""
        sizes = SPLITS["search"], SPLITS["check"]

        def seen(one: Tensor) -> float:
            return sizes[0] * self.measured(one, "search") + sizes[1] * self.measured(one, "check")

        return self.measured(min(candidates, key=seen), "test")

    def best_rescaled(self, candidates: list[Tensor]) -> float:
        """Return the test loss of the candidate and the scale of its logits that are best together on these images."""
        seen = [torch.cat(both) for both in zip(self.splits["search"], self.splits["check"], strict=True)]
        found = (math.inf, math.inf)
        for one in candidates:
            shown = self.shown(one)
            with torch.no_grad():
                logits, tested = shown(seen[0]), shown(self.splits["test"][0])
            for scale in SCALES:
                test = float(F.cross_entropy(scale * tested, self.splits["test"][1]))
                found = min(found, (float(F.cross_entropy(scale * logits, seen[1])), test))
        return found[1]


def passes(evaluations: int) -> float:
    """Return how many training steps the evaluations of a search are, by the images that pass."""
    return evaluations * SPLITS["search"] / BATCH


def compared(seed: int, steps: int, budget: float = 1.0) -> dict[str, Any]:
    """Return test losses of a run's end, its averages tuned on the same images as the search, and its mixtures.

    Args:
        seed: of data, weights and order.
        steps: of the run.
        budget: share of the evaluations that a search may make.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _compared(seed, steps, {name: max(20, round(budget * n)) for name, n in EVALUATIONS.items()}, budget)
    finally:
        torch.set_num_threads(threads)


def _compared(seed: int, steps: int, evaluations: dict[str, int], budget: float) -> dict[str, Any]:
    run = Run(seed, steps)
    done, early = 0, {}
    spent = 0.0
    for share in SHARES:
        upto = round(share * steps)
        run.advance(done, upto)
        done = upto
        before = run.mix.evaluations
        early[upto] = run.search("gradient", evaluations["gradient"])
        spent = passes(run.mix.evaluations - before)
        early[upto]["spent"] = spent
    k = run.mix.kept
    age = torch.arange(k - 1, -1, -1, dtype=torch.float64)
    single = list(torch.eye(k, dtype=torch.float64))
    uniform = [(age < n).double() / n for n in range(1, k + 1)]
    exponential = [decay**age / (decay**age).sum() for decay in DECAYS]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(max(20, round(CONVEX * budget)), k, generator=generator, dtype=torch.float64)
    convex = list(-torch.log1p(-drawn))
    last = run.measured(None, "test")
    averages = {
        "single": run.best_of(single),
        "lawa": run.best_of(uniform),
        "ema": run.best_of(exponential),
    }
    gradient, coefficients = early[steps], torch.tensor(run.mix.coefficients)
    evolution = run.search("evolution", evaluations["evolution"])
    decayed = Run(seed, steps + round(spent), decays=True)
    decayed.advance(0, decayed.steps)
    reached = next((n + found["spent"] for n, found in sorted(early.items()) if found["test"] <= last), None)
    return {
        "last": last,
        **averages,
        "average": min(averages.values()),
        "rescaled": run.best_rescaled([*single, *uniform, *exponential]),
        "convex": run.best_of([one / one.sum() for one in convex]),
        "mixture": gradient["test"],
        "mixture, searched on": gradient["search"],
        "evolution": evolution["test"],
        "evolution, searched on": evolution["search"],
        "decayed": decayed.measured(None, "test"),
        "steps": steps,
        "reached": reached,
        "negative": float((coefficients < 0).double().mean()),
        "largest": float(coefficients.abs().max()),
    }


CLAIM = Claim(
    part="mixture",
    paper="lcsc",
    headline="Training 23x (CIFAR-10) and 15x (ImageNet-64) shorter for consistency models at equal FID.",
    source="Liu et al., 2024, arXiv 2404.02241, abstract",
    experiment=(
        "A network learns digits, a fifth of them with wrong labels, by SGD at a constant rate; 30 snapshots are mixed "
        "by L-BFGS on 300 held-out images, with 150 others to end the search, and by 2,000 evaluations of evolution: "
        "test loss against the best of all averages, and steps until a mixture is as good as the end of the run, the "
        "passes of its search counted as steps."
    ),
    baseline=(
        "The best for the test images of three averages, each tuned on the same 450 images: one snapshot, a uniform "
        "average of the last n, and an exponential one of 8 decays."
    ),
    experiments={
        "digits": Measurement(
            compared,
            [{"seed": seed, "steps": 1200} for seed in range(8)],
            [{"seed": 0, "steps": 60, "budget": 0.01}],
        )
    },
    criteria=[
        Criterion(
            "test loss of the mixture at most 0.97x of the best tuned average's",
            lambda f: f.columns_ratio("digits", "mixture", "average"),
            at_most=0.97,
            gain=True,
        ),
        Criterion(
            "at most 0.6x of the steps to the loss at the end of the run, those of the search included",
            lambda f: f.columns_ratio("digits", "reached", "steps"),
            at_most=0.6,
            gain=True,
            paper="0.043x, consistency models on CIFAR-10",
        ),
        Criterion(
            "more than luck: the best of 1,000 random convex mixtures is at least 1.02x as high",
            lambda f: f.columns_ratio("digits", "convex", "mixture"),
            at_least=1.02,
            control=True,
        ),
        Criterion(
            "more than calibration: at most 1x of the best average with its logits rescaled on the same images",
            lambda f: f.columns_ratio("digits", "mixture", "rescaled"),
            at_most=1.0,
            control=True,
        ),
        Criterion(
            "the set-up shows what averaging gives: the best average at most 0.9x of the last weights",
            lambda f: f.columns_ratio("digits", "average", "last"),
            at_most=0.9,
            control=True,
            positive=True,
        ),
    ],
    trend={
        "by evolution, over the best average": lambda f: f.columns_ratio("digits", "evolution", "average"),
        "over a run that decays to zero and takes as many passes": lambda f: f.columns_ratio(
            "digits", "mixture", "decayed"
        ),
        "test over search images": lambda f: f.columns_ratio("digits", "mixture", "mixture, searched on"),
        "the same, by evolution": lambda f: f.columns_ratio("digits", "evolution", "evolution, searched on"),
        "over the exponential average": lambda f: f.columns_ratio("digits", "mixture", "ema"),
    },
    regime=images_regime(
        "consistency and diffusion models on CIFAR-10 and ImageNet-64, 100,000s of steps at a constant rate",
        "a constant rate under label noise, which averages help against; a classifier, 1,200 steps",
    ),
    minutes=4,
    limits=(
        "A small classifier; the paper's factors are those of consistency and diffusion models by FID, where no "
        "gradient of the metric is at hand. The control for calibration was added after a first run, whose other "
        "figures were the same."
    ),
    extra="sklearn",
)
