"""The pages in docs/adding: the code of each runs, does what it says, and fits into a recipe."""

import contextlib
import importlib.util
import math
import re
import sys
from pathlib import Path
from statistics import NormalDist

import pytest
import torch
from torch import nn
from torch.nn import functional

import sooner
from sooner.cluster import train_cluster
from sooner.error import SoonerError
from sooner.part import STATIONS
from sooner.task import Task

PAGES = Path(__file__).parents[2] / "docs" / "adding"


@pytest.fixture
def of_page(tmp_path, monkeypatch):
    """Import the code of a page."""
    monkeypatch.syspath_prepend(tmp_path)

    def load(page):
        code = re.search(r"```python\n(.*?)```", (PAGES / f"{page}.md").read_text("utf-8"), re.DOTALL).group(1)
        (tmp_path / f"{page}_example.py").write_text(code, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(f"{page}_example", tmp_path / f"{page}_example.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


def parameter(*numbers):
    return nn.Parameter(torch.tensor(numbers, dtype=torch.float64))


def test_the_first_page_leads_to_all_others():
    text = (PAGES.parent / "adding-a-part.md").read_text("utf-8")
    pages = {path.stem for path in PAGES.glob("*.md")}
    assert set(re.findall(r"\(adding/(\w+)\.md\)", text)) == pages
    assert pages <= set(STATIONS)


def test_signum_moves_every_weight_by_the_sign_of_the_mean_gradient(of_page):
    p = parameter(0.0, 0.0, 0.0)
    optimizer = of_page("update").Signum([p], lr=0.5, momentum=0.5)
    p.grad = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    optimizer.step()
    assert p.tolist() == [-0.5, 0.5, 0.0]
    p.grad = torch.tensor([-3.0, -2.0, 1.0], dtype=torch.float64)
    optimizer.step()  # mean: 0.25 - 1.5 < 0
    assert p.tolist() == [0.0, 1.0, -0.5]
    up = of_page("update").Signum([p], lr=0.5, maximize=True)
    p.grad = torch.tensor([math.nan, -2.0, 1.0], dtype=torch.float64)
    up.step()
    assert p[0].isnan()
    assert p[1:].tolist() == [0.5, 0.0]
    recipe = sooner.Recipe("update_example.Signum(momentum=0.8) + cosine")
    assert set(recipe.space) == {"lr"}
    assert recipe.build(nn.Linear(2, 2), steps=10).learning_rates() == [pytest.approx(1e-3)]


def test_inverse_square_root_rises_and_falls(of_page):
    of_page("schedule")
    recipe = sooner.Recipe("sgd(lr=2.0) + schedule_example.InverseSquareRoot(warmup=4)")
    assert recipe.horizon_free
    training = recipe.build(model := nn.Linear(2, 1), steps=20)
    rates = []
    for _ in range(16):
        rates += training.learning_rates()
        model(torch.ones(1, 2)).sum().backward()
        training.step()
        training.zero_grad()
    assert rates[:4] == [pytest.approx(2.0 * t / 4) for t in (1, 2, 3, 4)]
    assert rates[15] == pytest.approx(1.0)  # sqrt(4 / 16)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, sooner.update.SGD])
def test_centralized_gradients_have_rows_of_mean_zero(of_page, optimizer):
    module = of_page("gradient")
    weight, bias = nn.Parameter(torch.zeros(2, 3, 2)), nn.Parameter(torch.zeros(2))
    made = optimizer([weight, bias], lr=1.0, momentum=0.0)
    module.GradientCentralization(made)
    weight.grad, bias.grad = torch.arange(12.0).view(2, 3, 2), torch.tensor([1.0, 2.0])
    made.step()
    torch.testing.assert_close(weight.detach(), -(weight.grad - weight.grad.mean((1, 2), keepdim=True)))
    assert bias.tolist() == [-1.0, -2.0]
    assert "gradient_example.GradientCentralization" in str(
        sooner.Recipe("gradient_example.GradientCentralization + sgd")
    )


def test_eight_bit_floats_average_workers(of_page):
    module = of_page("communication")
    v = torch.tensor([[448.0, 1.0, 0.0, -3.0], [math.nan, 1.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    sent = module.Float8().decode(module.Float8().encode(v, None), None)
    assert sent[0].tolist() == [448.0, 1.0, 0.0, -3.0]
    assert sent[1].isnan().all()
    assert sent[2].tolist() == [0.0] * 4
    task = Task(
        model=lambda seed: nn.Linear(3, 1),
        batches=lambda seed, split: [torch.ones(2, 3)] * 20,
        loss=lambda model, batch: model(batch).square().mean(),
        steps=10,
    )
    run = train_cluster(task, "sgd(lr=0.1, momentum=0.0) + communication_example.Float8 + ef", workers=3)
    assert run.values[-1] < 0.01 * run.values[0]
    assert run.traffic.payload_bytes == 10 * (4 + 4)  # four numbers of a byte, and a scale, in every step


def test_z_loss_adds_the_squared_normaliser_where_it_can(of_page):
    made = of_page("loss").ZLoss(0.5)
    logits, targets = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, -100, 1])
    normaliser = logits[targets >= 0].exp().sum(1).log()
    expected = functional.cross_entropy(logits, targets) + 0.5 * normaliser.square().mean()
    with made.around_loss():
        torch.testing.assert_close(nn.CrossEntropyLoss()(logits, targets), expected)
        with pytest.raises(SoonerError, match="z_loss adds to means"):
            functional.cross_entropy(logits, targets, reduction="sum")
    assert "coefficient" in sooner.Recipe("loss_example.ZLoss + adamw").space


def test_the_mean_of_iterates_is_shown_and_taken_back(of_page):
    of_page("weights")
    model = nn.Linear(2, 1, bias=False)
    training = sooner.Recipe("sgd(lr=1.0, momentum=0.0) + weights_example.MeanOfIterates").build(model, steps=4)
    seen = []
    for _ in range(4):
        model(torch.ones(1, 2)).square().sum().backward()
        training.step()
        training.zero_grad()
        seen.append(model.weight.detach().clone())
    with training.view():
        torch.testing.assert_close(model.weight.detach(), torch.stack(seen).mean(0))
    assert torch.equal(model.weight.detach(), seen[-1])
    state = training.state_dict()
    training.load_state_dict(state)


def test_the_output_layer_starts_at_zero_and_nothing_else_does(of_page):
    module = of_page("model")
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    before = model[0].weight.detach().clone()
    training = sooner.Recipe("model_example.ZeroHead + sgd").build(model, steps=2)
    assert training.model is model
    assert not model[2].weight.any()
    assert not model[2].bias.any()
    assert torch.equal(model[0].weight, before)
    tied = nn.ModuleDict({"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    tied["head"].weight = tied["embed"].weight
    with pytest.raises(SoonerError, match="no output layer that is not an embedding"):
        module.ZeroHead(tied)


def test_activations_are_kept_in_half_and_weights_are_not(of_page):
    of_page("memory")
    model, x = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 1, bias=False)), torch.randn(8, 6)
    training = sooner.Recipe("memory_example.HalfActivations + sgd").build(model, steps=2)
    with contextlib.ExitStack() as stack:
        for enter in training.around_loss:
            stack.enter_context(enter())
        loss = model(x).mean()
    loss.backward()
    hidden = x @ model[0].weight.detach().T
    exact = hidden.mean(0, keepdim=True)
    rounded = hidden.bfloat16().float().mean(0, keepdim=True)
    torch.testing.assert_close(model[1].weight.grad, rounded)
    assert not torch.allclose(model[1].weight.grad, exact, rtol=1e-6, atol=0)
    upward = (model[1].weight.detach() / 8).expand(8, 6)  # the gradient of the hidden units is exact
    torch.testing.assert_close(model[0].weight.grad, upward.T @ x.bfloat16().float())


def test_logit_normal_times_follow_their_law_and_fill_the_place(of_page):
    module = of_page("diffusion")
    uniform = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    times = module.logit_normal(uniform, mean=0.3, std=2.0)
    z = torch.tensor([NormalDist().inv_cdf(u) for u in (0.25, 0.5, 0.75)], dtype=torch.float64)
    torch.testing.assert_close(times[1:4], 1 / (1 + (-(0.3 + 2.0 * z)).exp()))
    assert 0 < times[0] < times[-1] < 1
    law = module.LogitNormal(std=0.5)
    with law.around_loss():
        assert torch.equal(sooner.diffusion.training_times(uniform), law(uniform))
    with pytest.raises(SoonerError, match="never asks for its training times"), law.around_loss():
        pass
    assert {"mean", "std"} <= set(sooner.Recipe("diffusion_example.LogitNormal + adamw").space)


def test_growing_draws_from_more_and_more(of_page):
    module = of_page("data")
    sampler = module.Growing(range(100), 8, 50, begin=0.1)
    batches = list(sampler)
    assert max(batches[0]) < 10
    assert max(position for batch in batches[40:] for position in batch) > 80
    assert batches[7] == module.Growing(range(100), 8, 50, begin=0.1)[7]
    assert "data_example.Growing(begin=0.5)" in str(sooner.Recipe("data_example.Growing(begin=0.5) + sgd"))
