"""TOPR learns from old answers, right and wrong ones, where plain REINFORCE collapses."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from sooner import loop
from sooner.claims._claim import Claim, Criterion, Measured, Measurement, Regime
from sooner.claims._findings import Findings
from sooner.rl import PolicyLoss, Rollouts, group_means, policy_loss
from sooner.task import Task
from sooner.workloads import sums
from sooner.workloads._seeded import generator, seeded

ARMS = {
    "topr": "topr",
    "positives only": "topr(negative=(0.0, 0.0))",
    "naive": "topr(negative=(1.0, 1.0))",
    "clipped": "sooner.claims.topr.Clipped",
}

RATES = (1e-4, 3e-4, 1e-3)
TUNED = 50_000
"""The seed that chooses learning rates; the reported seeds are others."""

SIZE = {"answers": 8192, "batch": 256, "steps": 200}
SMALL = {"answers": 64, "batch": 16, "steps": 2}


class Clipped(PolicyLoss):
    """The clipped loss of PPO with a limit of 0.2 per token, against the policy that wrote the answers."""

    def __call__(self, logp: Tensor, rollouts: Rollouts) -> Tensor:
        """Return it, with rewards less their mean over the prompt's answers as advantage."""
        advantage = (rollouts.reward - group_means(rollouts.reward, rollouts.group))[:, None]
        ratio = (logp - rollouts.logp).exp()
        least = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        return -(least * rollouts.mask).sum(1).div(rollouts.mask.sum(1)).mean()


@dataclass(frozen=True)
class Old:
    """Batches of answers that one policy wrote once."""

    rollouts: Rollouts
    size: int
    seed: int

    def __getitem__(self, step: int) -> Rollouts:
        random = generator(self.seed, "train", step)
        return self.rollouts[torch.from_numpy(random.integers(len(self.rollouts), size=self.size))]


def start(seed: int, size: dict[str, int]) -> nn.Module:
    """Return the policy that writes the answers and learns from them; in the miniature an untaught one."""
    if size is SIZE:
        return sums.model(seed)
    with seeded(seed):
        return sums.Policy()


def answers(seed: int, size: dict[str, int]) -> Old:
    """Return answers of the start, 8 to each prompt, with rewards 1 and -1."""
    count = size["answers"] // sums.GROUP
    written = sums.rollouts(start(seed, size), *sums._batch(seed, "train", count, sums.GROUP, 2**30))
    return Old(written, size["batch"], seed)


def learn(arm: str, lr: float, seed: int, size: dict[str, int]) -> dict[str, float]:
    """Train on old answers; return accuracy and valid output of the likeliest answers, and at the start."""
    old = answers(seed, size)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        if isinstance(batch, Rollouts):
            return policy_loss(sums.answer_logp(model, batch), batch)
        return torch.zeros(())  # in evaluations only the metrics count

    task = Task(
        lambda _: start(seed, size),  # the policy that wrote the answers, whatever the run's own seed
        lambda seed, split: sums.batches(seed, split) if split == "eval" else old,
        loss,
        size["steps"],
        metrics=sums.metrics,
        metric="wrong",
        provides=frozenset({"rollouts"}),
    )
    run = loop.train(task, f"clip_norm + {ARMS[arm]} + adamw(lr={lr})", seed, evaluate_at=[0, size["steps"]])
    diverged = run.diverged_at is not None
    return {
        "start": 1 - run.values[0],
        "accuracy": 0.0 if diverged else 1 - run.values[-1],
        "valid": 0.0 if diverged else run.metrics[-1]["valid"],
    }


@cache
def best_rate(arm: str) -> float:
    """Return the learning rate with the highest accuracy on the tuning seed."""
    return max(RATES, key=lambda lr: learn(arm, lr, TUNED, SIZE)["accuracy"])


def off_policy(seed: int, arm: str, small: bool) -> dict[str, Any]:
    """Train one arm at the learning rate that is best on the tuning seed."""
    lr = RATES[1] if small else best_rate("topr" if arm == "naive" else arm)
    return {**learn(arm, lr, seed, SMALL if small else SIZE), "rate": lr}


def collapsed(findings: Findings) -> Measured:
    """Return the share of seeds on which plain REINFORCE ends with less than half of its answers valid."""
    valid = findings.values("sums", "valid", arm="naive")
    return Measured(sum(v < 0.5 for v in valid) / len(valid))


def gap(other: str, at_least: float) -> Callable[[Findings], Measured]:
    """Return TOPR's accuracy less another arm's; undecided where it is missed and nothing was to be learned."""

    def measured(findings: Findings) -> Measured:
        found = findings.paired_difference("sums", "accuracy", {"arm": "topr"}, {"arm": other})
        if found.value < at_least and taught(findings).value < 0.2:
            return replace(found, undecided="imitating right answers, which is known to help, teaches nothing here")
        return found

    return measured


def taught(findings: Findings) -> Measured:
    """Return what imitation of right answers adds to the accuracy of the start."""
    ends = findings.values("sums", "accuracy", arm="positives only")
    starts = findings.values("sums", "start", arm="positives only")
    return Measured(sum(a - b for a, b in zip(ends, starts, strict=True)) / len(ends))


def accuracy(arm: str) -> Callable[[Findings], Measured]:
    """Return an arm's accuracy at the end."""
    return lambda f: f.mean("sums", "accuracy", arm=arm)


CLAIM = Claim(
    part="topr",
    paper="topr",
    headline=(
        "Learns from old right and wrong answers without a KL penalty: stable where REINFORCE collapses, better than "
        "right answers alone."
    ),
    source="Le Roux et al., 2025, arXiv 2503.14286, abstract and section 4",
    experiment=(
        "A tiny Transformer with a fifth of its sampled sums right writes 8,192 answers once. From these alone, six "
        "times over, it learns with TOPR, from right answers only, with plain REINFORCE and with PPO's clipped loss: "
        "accuracy and share of valid outputs of its likeliest answers on 512 prompts, on five seeds."
    ),
    baseline=(
        "The same start, answers and order of batches; each arm at the best of three learning rates on a seed of its "
        "own, plain REINFORCE at that of TOPR."
    ),
    experiments={
        "sums": Measurement(
            off_policy,
            [{"seed": seed, "arm": arm, "small": False} for arm in ARMS for seed in range(5)],
            [{"seed": 0, "arm": arm, "small": True} for arm in ARMS],
        )
    },
    criteria=[
        Criterion(
            "stable: with TOPR at least 95 % of the outputs are valid on every seed",
            lambda f: f.smallest("sums", "valid", arm="topr"),
            at_least=0.95,
        ),
        Criterion(
            "where plain REINFORCE collapses: on at least 4 of 5 seeds it ends with less than half of them valid",
            collapsed,
            at_least=0.8,
        ),
        Criterion(
            "wrong answers help: accuracy at least 3 points above right answers alone",
            gap("positives only", 0.03),
            at_least=0.03,
        ),
        Criterion(
            "accuracy at least 3 points above PPO's clipped loss on the same answers",
            gap("clipped", 0.03),
            at_least=0.03,
        ),
        Criterion(
            "there is something to learn: right answers alone add at least 20 points to the start",
            taught,
            at_least=0.2,
            control=True,
            positive=True,
        ),
    ],
    trend={f"accuracy, {arm}": accuracy(arm) for arm in ARMS},
    regime=Regime(
        "language models of 8 billion parameters on GSM8K and MATH, 16 answers a question, several iterations",
        "AdamW",
        "constant, from the first step on",
        "batches of 128 answers, four in five of them wrong",
        "answers of an older policy, mostly wrong, as there; sums and one iteration",
        start="a model with a fifth of its answers right",
    ),
    minutes=8,
    limits=(
        "One right answer to each prompt, so that imitating right ones is supervised learning of the very task; the "
        "paper's questions have many right ways. One generation of answers; the paper iterates."
    ),
)
