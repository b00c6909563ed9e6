"""Two small networks learn to balance a pole on a cart, many carts at once.

It shows reinforcement learning where credit is spread over time: an actor and a critic, discounted returns, and noise
that depends on how many carts are tried. The dynamics are those of CartPole-v1 (Barto, Sutton and Anderson, 1983). As a
task every step is one update from whole episodes; `ppo` is the loop of several updates, for measurements.
"""

import hashlib
import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from sooner.recipe import Recipe
from sooner.workloads._seeded import Batch, Finite, Stream, generator, seeded

steps = 60
metric = "fallen"
evaluations = 25

CARTS = 32  # in a training batch
EVAL_CARTS = 64
EPISODE = 200  # of the task; `ppo` plays to LIMIT
LIMIT = 500
WIDTH = 64
DISCOUNT = 0.99
WORTH = 1 / (1 - DISCOUNT)  # of standing for ever: the critic's unit

GRAVITY, CART, POLE, HALF_LENGTH, FORCE, SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
FARTHEST, STEEPEST = 2.4, 12 * 2 * math.pi / 360


def moved(states: Tensor, pushes: Tensor) -> Tensor:
    """Return states [N, 4] (place, speed, angle, turning) after a fiftieth of a second of forces [N], in newtons."""
    _, speed, angle, turning = states.unbind(1)
    sine, cosine = angle.sin(), angle.cos()
    common = (pushes + POLE * HALF_LENGTH * turning.square() * sine) / (CART + POLE)
    inertia = HALF_LENGTH * (4 / 3 - POLE * cosine.square() / (CART + POLE))
    twist = (GRAVITY * sine - cosine * common) / inertia
    thrust = common - POLE * HALF_LENGTH * twist * cosine / (CART + POLE)
    change = torch.stack([speed, thrust, turning, twist], dim=1)  # Euler's method, with the speeds before
    return states + SECONDS * change


def fell(states: Tensor) -> Tensor:
    """Return whether each cart is out of bounds or its pole too steep, bool [N]."""
    return (states[:, 0].abs() > FARTHEST) | (states[:, 2].abs() > STEEPEST)


class ActorCritic(nn.Module):
    """States [N, 4] -> logits of pushing left and right [N, 2], and the return that is expected [N], in WORTH."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = _layers()
        self.head = nn.Linear(WIDTH, 2)
        self.critic = _layers()
        self.value = nn.Linear(WIDTH, 1)
        with torch.no_grad():
            self.head.weight.mul_(0.1)  # both ways alike at first

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and values."""
        return self.head(self.actor(states)), self.value(self.critic(states))[:, 0]


def _layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh())


def model(seed: int) -> nn.Module:
    """Return the two networks with weights drawn from `seed`."""
    with seeded(seed):
        return ActorCritic()


def batches(seed: int, split: str) -> Stream:
    """Return batches (states [N, 4] at the start, uniform [EPISODE, N] that decide which way each cart is pushed)."""
    if split == "eval":
        return Finite(partial(_batch, seed, split, EVAL_CARTS), 1)
    return Stream(partial(_batch, seed, split, CARTS))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Play whole episodes; return the loss of the actor by advantages, plus half the critic's squared error."""
    start, uniform = batch
    seen, pushed, alive = play(model, start, uniform)
    later = torch.zeros_like(start[:, 0])
    returns = []
    for standing in alive.flip(0).float():  # an episode that reaches its end is cut off there for all alike
        later = standing * (1 + DISCOUNT * later)
        returns.append(later / WORTH)
    wanted = torch.stack(returns).flip(0)[alive]  # [M] of all steps that were taken
    logits, values = model(seen[alive])
    advantage = wanted - values.detach()
    advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-6)
    logp = logits.log_softmax(1).gather(1, pushed[alive][:, None])[:, 0]
    found: Tensor = 0.5 * (values - wanted).square().mean() - (advantage * logp).mean()
    return found


def metrics(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return the share of an episode's steps that are lost by falling, with pushes drawn as in training."""
    _, _, alive = play(model, *batch)
    return {"fallen": 1 - alive.float().mean()}


@torch.no_grad()
def play(model: nn.Module, start: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Play one episode per cart.

    Args:
        model: the networks.
        start: states ``[N, 4]``.
        uniform: ``[T, N]``; a cart is pushed right where its number is below the probability of that.

    Returns:
        States before each step ``[T, N, 4]``, pushes int64 ``[T, N]`` (1 is right), and whether the cart had not
        fallen before the step, bool ``[T, N]``.
    """
    states, standing = start, torch.ones(len(start), dtype=torch.bool, device=start.device)
    seen, pushes, alive = [], [], []
    for numbers in uniform:
        right = (numbers < model(states)[0].softmax(1)[:, 1]).long()
        seen.append(states)
        pushes.append(right)
        alive.append(standing)
        states = torch.where(standing[:, None], moved(states, FORCE * (2 * right - 1)), states)
        standing = standing & ~fell(states)
    return torch.stack(seen), torch.stack(pushes), torch.stack(alive)


def ppo(
    seed: int,
    carts: int = 256,
    iterations: int = 37,
    recipe: str = "clip_norm(max_norm=0.5) + adamw(lr=0.001, weight_decay=0.0)",
    push: float = 0.0,
    horizon: int = 32,
    minibatch: int = 512,
    epochs: int = 4,
    clip: float = 0.2,
    smoothing: float = 0.95,
) -> Iterator[dict[str, float]]:
    """Train by proximal policy optimization (Schulman et al., 2017, arXiv 1707.06347), an iteration per item.

    A function of its arguments alone. Episodes go on from one iteration to the next and end by falling or after LIMIT
    steps; the latter are no failures, so the return behind them is the critic's.

    Args:
        seed: decides weights, starts, pushes and the order of minibatches.
        carts: how many are driven at once.
        iterations: how many items.
        recipe: optimizer and what goes with it; schedules end with the last update.
        push: standard deviation of a random force on every cart, in newtons.
        horizon: steps of every cart per iteration.
        minibatch: steps per update.
        epochs: passes over an iteration's steps.
        clip: how far a ratio of probabilities may go.
        smoothing: lambda of generalized advantage estimation.

    Yields:
        "transitions" so far, "return", the mean length of the episodes that ended in this iteration (NaN for none), and
        "clipped", the share of ratios beyond the limit.
    """
    with seeded(seed):
        network = ActorCritic()
    random = torch.Generator().manual_seed(seed)
    updates = iterations * epochs * max(carts * horizon // minibatch, 1)
    training = Recipe(recipe).build(network, updates)
    states, ages = _starts(carts, random), torch.zeros(carts)
    for iteration in range(iterations):
        rows: list[tuple[Tensor, ...]] = []
        ended: list[Tensor] = []
        for _ in range(horizon):
            with torch.no_grad():
                logits, values = network(states)
                right = (torch.rand(carts, generator=random) < logits.softmax(1)[:, 1]).long()
                logp = logits.log_softmax(1).gather(1, right[:, None])[:, 0]
                force = FORCE * (2 * right - 1) + push * torch.randn(carts, generator=random)
                after = moved(states, force)
                ages = ages + 1
                down, old = fell(after), ages >= LIMIT
                following = network(after)[1] * ~down
            rows.append((states, right, logp, values, following, down | old))
            over = down | old
            ended.append(ages[over])
            states = torch.where(over[:, None], _starts(carts, random), after)
            ages = ages * ~over
        seen, pushed, logp, values, following, over = (torch.stack(column) for column in zip(*rows, strict=True))
        advantage = torch.zeros_like(values)
        running = torch.zeros(carts)
        for t in range(horizon - 1, -1, -1):
            surprise = 1 / WORTH + DISCOUNT * following[t] - values[t]
            running = surprise + DISCOUNT * smoothing * running * ~over[t]
            advantage[t] = running
        flat = [x.flatten(0, 1) for x in (seen, pushed, logp, advantage, advantage + values)]
        beyond: list[Tensor] = []
        for _ in range(epochs):
            for chosen in torch.split(torch.randperm(len(flat[0]), generator=random), minibatch):
                value, outside = _clipped_loss(network, [x[chosen] for x in flat], clip)
                torch.autograd.backward(value)
                training.step()
                training.zero_grad()
                beyond.append(outside)
        lengths = torch.cat(ended)
        yield {
            "transitions": float((iteration + 1) * carts * horizon),
            "return": float(lengths.mean()),
            "clipped": float(torch.stack(beyond).mean()),
        }


def fingerprint() -> str:
    """Return what is played, and the hash of the starts that every run is evaluated from."""
    start, _ = batches(0, "eval")[0]
    digest = hashlib.sha256(start.numpy().tobytes()).hexdigest()
    return f"CartPole-v1, {EVAL_CARTS} carts for {EPISODE} steps, starts sha256 {digest}"


def _clipped_loss(network: nn.Module, batch: list[Tensor], clip: float) -> tuple[Tensor, Tensor]:
    """Return PPO's loss of some steps with the critic's, and the share of ratios beyond the limit."""
    seen, pushed, old, advantage, wanted = batch
    logits, values = network(seen)
    ratio = (logits.log_softmax(1).gather(1, pushed[:, None])[:, 0] - old).exp()
    advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-6)
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()
    return 0.5 * (values - wanted).square().mean() - gain, ((ratio.detach() - 1).abs() > clip).float().mean()


def _starts(carts: int, random: torch.Generator) -> Tensor:
    return torch.rand(carts, 4, generator=random) * 0.1 - 0.05


def _batch(seed: int, split: str, carts: int, index: int) -> Batch:
    random = generator(seed, split, index)
    start = torch.from_numpy(random.random((carts, 4), dtype="float32")) * 0.1 - 0.05
    return start, torch.from_numpy(random.random((EPISODE, carts), dtype="float32"))
