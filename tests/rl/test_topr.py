"""TOPR against its equations, one answer at a time, and what it guards against."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sooner
from sooner.error import SoonerError
from sooner.race.plan import Plan
from sooner.recipe import Recipe
from sooner.rl import TOPR, Rollouts, effective_positives, policy_loss, reinforce, sequence_logp, topr
from sooner.task import Task

G = torch.Generator().manual_seed(0)


def some(rows=6, length=5, dtype=torch.float64):
    old = -torch.rand(rows, length, generator=G, dtype=torch.float64) * 3
    now = (old + torch.randn(rows, length, generator=G, dtype=torch.float64)).clamp(max=0).to(dtype)
    mask = torch.rand(rows, length, generator=G) < 0.7
    reward = torch.randint(2, (rows,), generator=G).double() * 2 - 1
    return now.requires_grad_(), Rollouts(old.to(dtype), mask, reward.to(dtype))


def published(logp, data, baseline, positive, negative):
    """Algorithm 1 with Python's own numbers: the loss, and d loss / d logp."""
    total, slopes = 0.0, torch.zeros_like(logp)
    for i in range(len(data)):
        chosen = [j for j in range(logp.shape[1]) if data.mask[i, j]]
        now, old = (sum(float(x[i, j].detach()) for j in chosen) for x in (logp, data.logp))
        advantage = float(data.reward[i]) - baseline
        low, high = positive if advantage >= 0 else negative
        weight = min(max(math.exp(now - old), low), high)
        count = max(len(chosen), 1)
        total -= weight * advantage * now / count / len(data)
        for j in chosen:
            slopes[i, j] = -weight * advantage / count / len(data)
    return total, slopes


LIMITS = [
    ((1.0, 1.0), (0.0, 1.0)),
    ((1.0, 1.0), (1.0, 1.0)),
    ((0.0, 1.0), (0.0, 1.0)),
    ((0.0, math.inf), (0.0, math.inf)),
    ((1.0, 1.0), (0.0, 0.0)),
    ((0.5, 2.0), (0.0, 0.25)),
]


@pytest.mark.parametrize("baseline", [0.0, -0.4, 0.7])
@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_loss_and_gradient_are_the_published_ones(limits, baseline):
    logp, data = some()
    loss = topr(logp, data, baseline, *limits)
    (slope,) = torch.autograd.grad(loss, logp)
    wanted, slopes = published(logp, data, baseline, *limits)
    assert loss.item() == pytest.approx(wanted, rel=1e-12)
    torch.testing.assert_close(slope, slopes)


def test_on_answers_of_the_present_policy_it_is_reinforce():
    logp, data = some()
    same = Rollouts(logp.detach(), data.mask, data.reward)
    ours = torch.autograd.grad(topr(logp, same, baseline=float(data.reward.mean())), logp)[0]
    theirs = torch.autograd.grad(reinforce(logp, same), logp)[0]
    torch.testing.assert_close(ours, theirs)


def test_without_division_long_answers_count_by_their_length():
    logp, data = some()
    counts = data.mask.sum(1).double()
    by_hand = -(
        torch.where(
            data.reward > 0, 1.0, (sequence_logp(logp, data) - sequence_logp(data.logp, data)).exp().clamp(max=1)
        ).detach()
        * data.reward
        * sequence_logp(logp, data)
    )
    torch.testing.assert_close(topr(logp, data, normalise="none"), by_hand.mean())
    torch.testing.assert_close(topr(logp, data), (by_hand / counts.clamp(min=1)).mean())


@settings(max_examples=30)
@given(
    drift=st.sampled_from([-math.inf, -1e4, -50.0, 0.0, 50.0, 1e4]),
    reward=st.sampled_from([-1.0, 1.0]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
)
def test_however_far_the_policy_has_gone_a_wrong_answer_gives_a_finite_loss(drift, reward, dtype):
    old = torch.full((1, 3), -10.0, dtype=dtype)
    now = torch.full((1, 3), max(-10 + drift, -6e4) if math.isfinite(drift) else drift, dtype=dtype).clamp(max=0)
    logp = now.requires_grad_()
    loss = topr(logp, Rollouts(old, torch.ones(1, 3), torch.tensor([reward])))
    (slope,) = torch.autograd.grad(loss, logp)
    if reward < 0:
        assert torch.isfinite(loss)
        assert torch.isfinite(slope).all()
    assert loss.dtype == torch.promote_types(dtype, torch.float32)


def test_what_the_mask_leaves_out_may_be_anything():
    logp, data = some()
    spoilt = logp.detach().masked_fill(~data.mask, math.nan).requires_grad_()
    worse = Rollouts(data.logp.masked_fill(~data.mask, -math.inf), data.mask.int(), data.reward)
    torch.testing.assert_close(topr(spoilt, worse), topr(logp, data))
    (slope,) = torch.autograd.grad(topr(spoilt, worse), spoilt)
    assert torch.equal(slope[~data.mask], torch.zeros_like(slope[~data.mask]))


def test_an_empty_answer_has_no_part():
    logp, data = some(rows=2)
    mask = torch.tensor([[True] * 5, [False] * 5])
    alone = Rollouts(data.logp[:1], mask[:1], data.reward[:1])
    both = Rollouts(data.logp, mask, data.reward)
    torch.testing.assert_close(topr(logp, both), topr(logp[:1], alone) / 2)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_baseline_moves_the_share_of_right_answers_in_the_gradient(share):
    rows = 20
    reward = torch.where(torch.arange(rows) < share * rows, 1.0, -1.0)
    logp = torch.full((rows, 1), -1.0, requires_grad=True)
    data = Rollouts(logp.detach(), torch.ones(rows, 1), reward)
    for c in (-1.0, -0.5, 0.0, 0.5):
        (slope,) = torch.autograd.grad(topr(logp, data, baseline=c), logp)
        found = slope[reward > 0].abs().sum() / slope.abs().sum()
        assert float(found) == pytest.approx(effective_positives(share, c), rel=1e-6)
    with pytest.raises(SoonerError, match="every answer has weight 0"):
        effective_positives(1.0, 1.0)
    with pytest.raises(SoonerError, match="share=2"):
        effective_positives(2, 0.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"positive": (1.0,)}, r"positive=\(1.0,\) are no limits"),
        ({"negative": (1.0, 0.5)}, r"negative=\(1.0, 0.5\) are no limits"),
        ({"negative": (-1.0, 1.0)}, "0 <= least <= largest"),
        ({"negative": 1.0}, "negative=1.0 are no limits"),
        ({"baseline": math.nan}, "baseline=nan is not a number"),
        ({"normalise": "seqence"}, r"normalise='seqence' \(did you mean 'sequence'\?\)"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change, said):
    logp, data = some()
    for call in (lambda: topr(logp, data, **change), lambda: TOPR(**change)):
        with pytest.raises(SoonerError, match=said):
            call()


def test_shapes_that_would_broadcast_are_refused():
    logp, data = some()
    with pytest.raises(SoonerError, match="one number per token of theirs"):
        topr(logp[:1], data)
    for name, value in (("mask", torch.ones(6)), ("reward", torch.ones(6, 1)), ("group", torch.ones(1).long())):
        with pytest.raises(SoonerError, match=f"rollouts: {name} has shape"):
            Rollouts(**{"logp": data.logp, "mask": data.mask, "reward": data.reward, name: value})
    with pytest.raises(SoonerError, match="logp has shape"):
        Rollouts(data.logp[0], data.mask, data.reward)


def test_nothing_in_it_waits_for_the_device():
    logp, data = some()
    assert topr(logp.to("meta"), data.to("meta")).shape == ()  # reading a number of a meta tensor is an error
    grouped = Rollouts(data.logp, data.mask, data.reward, torch.arange(6)).to("meta")
    assert reinforce(logp.to("meta"), grouped).shape == ()


class Seen:
    """A task that notes its policy losses."""

    def __init__(self, ask=True):
        self.ask, self.data = ask, some(dtype=torch.float32)[1]

    def loss(self, model, batch):
        logp = self.data.logp + model.weight.sum()
        return policy_loss(logp, self.data) if self.ask else logp.mean()

    def task(self, **more):
        linear = lambda seed: torch.nn.Linear(1, 1, bias=False)  # noqa: E731
        return Task(linear, lambda seed, split: [0] * 9, self.loss, 2, **{"provides": {"rollouts"}, **more})


def test_in_a_recipe_it_takes_the_place_of_the_policy_loss():
    seen = Seen()
    run = sooner.train(seen.task(), "topr(baseline=0.5) + sgd(lr=0.0)", steps=1, evaluate_at=[])
    logp = seen.data.logp + run.model.weight.detach().sum()
    torch.testing.assert_close(run.losses[0], topr(logp, seen.data, baseline=0.5))
    plain = sooner.train(seen.task(), "sgd(lr=0.0)", steps=1, evaluate_at=[])
    torch.testing.assert_close(plain.losses[0], reinforce(logp, seen.data))
    torch.testing.assert_close(policy_loss(logp, seen.data), reinforce(logp, seen.data))  # nothing is left behind


def test_where_it_would_do_nothing_it_is_refused():
    with pytest.raises(SoonerError, match=r"topr: this loss never calls sooner\.rl\.policy_loss"):
        sooner.train(Seen(ask=False).task(), "topr + sgd", steps=1)
    said = (
        r"topr needs rollouts, which task \w+ does not provide; train on a task whose loss is sooner\.rl\.policy_loss"
    )
    with pytest.raises(SoonerError, match=said):
        sooner.train(Seen().task(provides=()), "topr + sgd", steps=1)
    with pytest.raises(SoonerError, match=said):
        Plan(sooner.workload("quadratic"), [Recipe("sgd"), Recipe("topr + sgd")])


def test_it_can_be_written_copied_and_sent():
    recipe = Recipe("topr(baseline=0.25, negative=(0.0, 0.5)) + adamw")
    assert Recipe(str(recipe)) == recipe
    logp, data = some()
    part = TOPR(0.25, negative=(0.0, 0.5))
    for same in (part, copy.deepcopy(part), pickle.loads(pickle.dumps(part))):
        torch.testing.assert_close(same(logp, data), topr(logp, data, 0.25, negative=(0.0, 0.5)))
