"""Two processes train one model in each framework: the steps are counted once, and gradients averaged once."""

from pathlib import Path

import pytest
import tiny
import torch


@pytest.fixture(scope="module")
def trained(ranks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    ranks([Path(__file__).with_name("two_ranks.py"), folder]).succeed()
    return folder


@pytest.mark.parametrize("library", ["accelerate", "transformers", "lightning"])
def test_two_processes_take_the_steps_of_one_with_twice_the_batch(library, request):
    pytest.importorskip(library)
    folder = request.getfixturevalue("trained")
    first, second = (torch.load(folder / f"{library} {rank}.pt") for rank in range(2))
    assert first["steps"] == second["steps"] == 16
    assert torch.equal(first["weights"], second["weights"])
    weights, shown, _ = tiny.by_hand(tiny.WHOLE, 16, tiny.loader(batch=4))
    torch.testing.assert_close(first["weights"], weights, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first["shown"], shown, rtol=1e-4, atol=1e-5)
