"""The all-round rule: Muon's steps at AdamW's scale on matrices, AdamW's on the rest, and models without a matrix."""

import pytest
import torch
from torch import nn

import sooner
from sooner.update import AdamW, AllRound, Muon


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 7)).double()


def with_gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_it_steps_as_muon_at_adamws_scale_with_the_rest_at_the_same_rate(weight_decay):
    one, other = net(), net()
    ours = AllRound(one, lr=1e-2, weight_decay=weight_decay)
    theirs = Muon(other, lr=1e-2, adamw_lr=1e-2, adjust="match_rms_adamw", weight_decay=weight_decay, decay="matrices")
    for seed in range(4):
        with_gradients(one, seed)
        with_gradients(other, seed)
        ours.step()
        theirs.step()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_gains_and_biases_do_not_decay():
    model = net()
    optimizer = AllRound(model, lr=1e-2, weight_decay=0.5)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    moved = [name for (name, p), old in zip(model.named_parameters(), before, strict=True) if not torch.equal(p, old)]
    assert moved == ["0.weight", "1.weight", "3.weight"]


def test_a_model_without_hidden_matrices_is_stepped_by_adamw():
    one, other = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()
    other.load_state_dict(one.state_dict())
    ours = AllRound(one)
    theirs = AdamW(other, lr=1e-2, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0)
    for seed in range(3):
        with_gradients(one, seed)
        with_gradients(other, seed)
        ours.step()
        theirs.step()
    assert torch.equal(one.weight, other.weight)
    assert "all_round" not in str(ours.explain())


def test_the_recommended_recipe_is_written_out_where_it_is_shown():
    recipe = sooner.Recipe("recommended")
    assert [s.name for s in recipe.slots] == ["clip_norm", "all_round", "constant", "power_ema"]
    assert not recipe.space  # one setting: a race tunes nothing of it
    assert recipe.horizon_free
    assert sooner.Recipe(str(recipe)) == recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("recommended(lr=1)", "recommended stands for .* and takes no settings"),
        ("recommended + cosine", "constant and cosine both own the learning rate"),
        ("recommended + ema", "both own the evaluation weights"),
    ],
)
def test_what_does_not_go_with_it_is_refused(text, said):
    with pytest.raises(sooner.SoonerError, match=said):
        sooner.Recipe(text)
