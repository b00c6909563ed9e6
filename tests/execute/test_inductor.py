"""The inductor executor takes the same steps as eager, with one graph for a whole schedule of learning rates."""

from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.utils import cpp_extension

from sooner import update
from sooner.execute import inductor, using

METHODS = {
    "sgd": lambda p: update.SGD(p, lr=0.1, nesterov=True, weight_decay=0.1, maximize=True),
    "adamw": lambda p: update.AdamW(p, lr=0.1),
    "adabelief": lambda p: update.AdaBelief(p, lr=0.1, weight_decay=0.1),
    "diffgrad": lambda p: update.DiffGrad(p, lr=0.1),
    "normalized_gd": lambda p: update.NormalizedGD(p, momentum=0.9),  # a sum over the model
    "sgd_sai": lambda p: update.SGDSaI(p),  # sums over parameters
    "adamp": lambda p: update.AdamP(p, weight_decay=0.1),  # sums over rows
    "muon": lambda p: update.Muon(p, weight_decay=0.1),  # whole matrices
}


def train(make, executor, dtype, steps=5):
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (7,), (), (0,), (5, 6), (3, 4), (2, 3, 2, 2)]
    params = [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in shapes]
    optimizer = make(params)
    for _ in range(steps):
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(dtype)
        with using(executor):
            optimizer.step()
    return params


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", METHODS)
def test_the_graph_takes_the_steps_of_eager(name, dtype, monkeypatch):
    monkeypatch.setattr(inductor, "BACKEND", "eager")  # the same graph, run without compiling it
    ours, reference = (train(METHODS[name], executor, dtype) for executor in ("inductor", "eager"))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    for p, q in zip(ours, reference, strict=True):
        assert torch.allclose(p, q, rtol=tolerance, atol=tolerance)


def test_eight_learning_rates_are_one_compiled_graph():
    before = counters["stats"]["unique_graphs"]
    ours, reference = (train(METHODS["adamw"], executor, torch.float64, steps=8) for executor in ("inductor", "eager"))
    assert counters["stats"]["unique_graphs"] - before == 1
    for p, q in zip(ours, reference, strict=True):
        assert torch.allclose(p, q, rtol=1e-12, atol=1e-12)


def test_torch_may_be_installed_in_a_folder_with_a_space(monkeypatch, tmp_path):
    folder = tmp_path / "a folder" / "lib"
    folder.parent.mkdir()
    folder.symlink_to(cpp_extension.TORCH_LIB_PATH, target_is_directory=True)
    monkeypatch.setattr(cpp_extension, "TORCH_LIB_PATH", str(folder))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "empty"))
    torch._dynamo.reset()
    ours, reference = (train(METHODS["adamw"], executor, torch.float64) for executor in ("inductor", "eager"))
    assert str(folder) == cpp_extension.TORCH_LIB_PATH
    assert list(tmp_path.glob("empty/**/*.so"))
    for p, q in zip(ours, reference, strict=True):
        assert torch.allclose(p, q, rtol=1e-12, atol=1e-12)


def test_too_many_layouts_run_uncompiled(caplog):
    caplog.set_level("INFO", logger="sooner.execute.inductor")
    inductor._compiled.cache_clear()
    with patch.object(inductor, "BACKEND", "eager"), torch._dynamo.config.patch(recompile_limit=1):
        for dtype in (torch.float32, torch.float64):
            p = nn.Parameter(torch.ones(5, 3, dtype=dtype))
            p.grad = torch.ones_like(p)
            with using("inductor"):
                update.SGD([p], lr=0.5, momentum=0.0).step()
            assert p.tolist() == [[0.5] * 3] * 5
    assert "a step runs uncompiled" in caplog.text
    inductor._compiled.cache_clear()
