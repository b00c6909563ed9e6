"""Groups of any size, and REINFORCE against its equation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sooner.error import SoonerError
from sooner.rl import Rollouts, group_means, reinforce, sequence_logp


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-3, 10**12), st.floats(-5, 5)), min_size=1, max_size=12))
def test_group_means_are_those_of_python(rows):
    group = torch.tensor([g for g, _ in rows])
    values = torch.tensor([v for _, v in rows], dtype=torch.float64)
    expected = [sum(v for h, v in rows if h == g) / sum(h == g for h, _ in rows) for g, _ in rows]
    assert group_means(values, group).tolist() == pytest.approx(expected, abs=1e-12)
    assert group_means(values, None).tolist() == pytest.approx([sum(v for _, v in rows) / len(rows)] * len(rows))


def test_reinforce_is_its_equation():
    logp = torch.tensor([[-1.0, -2.0], [-0.5, -9.0], [-3.0, -1.0]], requires_grad=True)
    mask = torch.tensor([[1, 1], [1, 0], [1, 1]])
    data = Rollouts(logp.detach(), mask, torch.tensor([1.0, -1.0, 1.0]), torch.tensor([7, 7, 3]))
    loss = reinforce(logp, data)
    assert loss.item() == pytest.approx(-(1 * -3 / 2 + -1 * -0.5 / 1 + 0) / 3)
    (slope,) = torch.autograd.grad(loss, logp)
    torch.testing.assert_close(slope, torch.tensor([[-1 / 6, -1 / 6], [1 / 3, 0], [0, 0]]))


def test_rewards_may_be_whole_numbers_or_booleans():
    logp = torch.full((2, 1), -1.0, requires_grad=True)
    for reward in (torch.tensor([1, 0]), torch.tensor([True, False])):
        loss = reinforce(logp, Rollouts(logp.detach(), torch.ones(2, 1), reward))
        assert torch.autograd.grad(loss, logp)[0].tolist() == [[-0.25], [0.25]]


def test_choosing_answers_and_moving_them():
    tokens = torch.arange(12).view(4, 3)
    data = Rollouts(-tokens.float(), tokens > 2, tokens[:, 0].float(), None, tokens)
    for chosen in (torch.tensor([2, 0]), torch.tensor([True, False, True, False]), slice(1, 3)):
        few = data[chosen]
        assert torch.equal(few.tokens, tokens[chosen])
        assert torch.equal(few.reward, tokens[chosen][:, 0].float())
        assert few.group is None
        assert len(few) == 2
    assert data.to("meta").logp.device.type == "meta"
    with pytest.raises(SoonerError, match="3 chooses no answers"):
        data[3]
    assert sequence_logp(data.logp.half(), data).dtype == torch.float32
