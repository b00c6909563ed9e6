"""cartpole: the dynamics of CartPole-v1, exact accounting of episodes, and that it can be learned."""

import math

import pytest
import torch

import sooner
from sooner.workloads import cartpole


def one_step(state, force):
    """CartPole-v1 with Python's own numbers."""
    x, x_dot, theta, theta_dot = state
    temp = (force + 0.05 * theta_dot**2 * math.sin(theta)) / 1.1
    theta_acc = (9.8 * math.sin(theta) - math.cos(theta) * temp) / (
        0.5 * (4.0 / 3.0 - 0.1 * math.cos(theta) ** 2 / 1.1)
    )
    x_acc = temp - 0.05 * theta_acc * math.cos(theta) / 1.1
    return [x + 0.02 * x_dot, x_dot + 0.02 * x_acc, theta + 0.02 * theta_dot, theta_dot + 0.02 * theta_acc]


def test_carts_move_as_published():
    states = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    forces = torch.tensor([10.0, -10.0] * 10, dtype=torch.float64)
    moved = cartpole.moved(states, forces)
    for before, force, after in zip(states.tolist(), forces.tolist(), moved.tolist(), strict=True):
        assert after == pytest.approx(one_step(before, force), rel=1e-12)


def test_carts_fall_at_the_published_limits():
    degrees = 12 * 2 * math.pi / 360
    states = torch.tensor([[2.41, 0, 0, 0], [0, 9, -degrees - 1e-4, 0], [2.39, 9, degrees - 1e-4, 9]])
    assert cartpole.fell(states).tolist() == [True, True, False]


def test_an_episode_is_counted_up_to_the_step_that_fell():
    start, _ = cartpole.batches(0, "eval")[0]
    seen, pushed, alive = cartpole.play(cartpole.model(0), start, torch.zeros(cartpole.EPISODE, len(start)))
    assert bool((pushed == 1).all())  # always to the right
    assert bool((alive.long().diff(dim=0) <= 0).all())
    lengths = alive.sum(0)
    assert int(lengths.min()) > 5
    assert int(lengths.max()) < 15
    for cart in range(5):
        state = start[cart].tolist()
        for step in range(int(lengths[cart])):
            assert seen[step, cart].tolist() == pytest.approx(state, abs=1e-5)
            state = one_step(state, 10.0)
        assert abs(state[2]) > cartpole.STEEPEST


def test_the_loss_is_the_one_of_its_returns():
    model, batch = cartpole.model(0), cartpole.batches(3, "train")[1]
    seen, pushed, alive = cartpole.play(model, *batch)
    wanted, logp, values = [], [], []
    for t in range(cartpole.EPISODE):
        for n in range(cartpole.CARTS):
            if alive[t, n]:
                left = int(alive[t:, n].sum())
                wanted.append(sum(0.99**i for i in range(left)) / 100)
    logits, values = model(seen[alive])
    wanted = torch.tensor(wanted)
    advantage = wanted - values.detach()
    advantage = (advantage - advantage.mean()) / advantage.std(correction=0)
    logp = logits.log_softmax(1)[torch.arange(len(wanted)), pushed[alive]]
    expected = -(advantage * logp).mean() + 0.5 * (values - wanted).square().mean()
    torch.testing.assert_close(cartpole.loss(model, batch), expected, rtol=1e-4, atol=1e-5)


def test_a_short_run_keeps_poles_up_longer():
    task = sooner.workload("cartpole")
    run = sooner.train(task, "adamw(lr=0.01)", steps=8, evaluate_at=[0, 8])
    assert run.values[0] > 0.85
    assert run.values[1] < run.values[0] - 0.1


def test_ppo_improves_and_is_a_function_of_its_seed():
    first = list(cartpole.ppo(1, carts=32, iterations=6, minibatch=256))
    again = list(cartpole.ppo(1, carts=32, iterations=6, minibatch=256))
    assert first == again
    assert first[-1]["transitions"] == 6 * 32 * 32
    assert first[-1]["return"] > 1.3 * first[0]["return"]
    assert all(0 <= one["clipped"] < 0.5 for one in first)
    noisy = list(cartpole.ppo(1, carts=32, iterations=1, minibatch=256, push=30.0))
    assert noisy[0]["return"] != first[0]["return"]
