"""The few examples of a miniature are the first of the task's own batches, and each run may change its tensors."""

import pytest
import torch
from few_examples import First, fewer
from torch.utils import _pytree as pytree

from sooner.workloads import cartpole, charlm, quadratic, shapes, zipf


def flat(batch):
    return [x for x in pytree.tree_leaves(batch) if isinstance(x, torch.Tensor)]


@pytest.mark.parametrize("task", [cartpole, charlm, quadratic, shapes, zipf])
@pytest.mark.parametrize("split", ["train", "eval"])
def test_they_are_the_first_of_the_batch_of_their_seed_and_step(task, split):
    for seed in (1, 2):
        whole = task.batches(seed, split)
        for step in range(1 if split == "eval" else 2):
            own = [fewer(x) for x in flat(whole[step])]
            for _ in range(2):  # drawn, then remembered
                got = flat(First(whole)[step])
                assert len(got) == len(own)
                for one, other in zip(got, own, strict=True):
                    assert torch.equal(one, other)
                    one.fill_(1)  # nobody else's


def test_a_batch_that_does_not_exist_is_still_refused():
    with pytest.raises(IndexError, match="does not exist"):
        First(shapes.batches(1, "eval"))[1]
    with pytest.raises(IndexError, match="does not exist"):
        First(shapes.batches(1, "train"))[-1]
