"""A captured step goes on counting when it is replayed, reads the learning rate anew and leaves the host out.

There is no CUDA graph without CUDA, so its contract is played here: what a step launches is recorded, tensors stay
where they were, and a replay runs it again on the same memory, with nothing of the host's.
"""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sooner import gradient, part, update
from sooner.error import SoonerError
from sooner.execute import alike, cohort, counted, shared, tables, using
from sooner.execute import triton as ours

pytest.importorskip("triton")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(tables, "BLOCK", 32)


class Graph(TorchDispatchMode):
    """Records operations and launches while it is entered."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.recorded, self.kernels, self._patch = [], 0, monkeypatch
        for module in (cohort, counted, shared, tables):
            monkeypatch.setattr(module, "capturing", lambda device: self.on)
        self.on = False
        monkeypatch.setattr(alike, "GUARDS", None)  # they tell tensors seen by a dispatch mode from others
        load = ours.load
        monkeypatch.setattr(ours, "load", lambda source: _Spied(load(source), self))
        ours._compiled.cache_clear()

    def __enter__(self):
        self.on = True
        return super().__enter__()

    def __exit__(self, *raised):
        self.on = False
        return super().__exit__(*raised)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert "local_scalar" not in str(function), "the host waits for the device"
        out = function(*args, **(kwargs or {}))
        memory = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        fresh = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor) and t.numel()]
        new = [t for t in fresh if t.untyped_storage().data_ptr() not in memory]
        if new or str(function).split(".")[-2].endswith("_"):
            self.recorded.append((function, args, kwargs or {}, new))
        return out

    def replay(self):
        for function, args, kwargs, new in self.recorded:
            out = [t for t in tree_leaves(function(*args, **kwargs)) if isinstance(t, torch.Tensor)]
            for kept, again in zip(new, [t for t in out if t.numel()] if new else (), strict=True):
                kept.copy_(again)


class _Spied:
    def __init__(self, kernel, graph):
        self.kernel, self.graph = kernel, graph

    def __getitem__(self, grid):
        def launch(*args, **kwargs):
            self.kernel[grid](*args, **kwargs)
            if self.graph.on:
                self.graph.kernels += 1
                self.graph.recorded.append((self.kernel[grid], args, kwargs, []))

        return launch


METHODS = {
    "adamw": lambda p, lr: update.AdamW(p, lr=lr, weight_decay=0.1),
    "sgd": lambda p, lr: update.SGD(p, lr=lr, momentum=0.9, dampening=0.5),  # its first step is another
    "master": lambda p, lr: update.AdamW(p, lr=lr, master_weights=True),
    "stochastic": lambda p, lr: update.AdamW(p, lr=lr, stochastic_rounding=True),
}


def made(method, dtype):
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in [(5, 3), (40,), ()]]
    rate = torch.tensor(0.1)
    return params, rate, METHODS[method](params, rate)


def fill(params, rate, step):
    generator = torch.Generator().manual_seed(step)
    rate.fill_(0.1 / step)
    for i, p in enumerate(params):
        if step == 1 and i == 2:
            continue  # the step counts of this one lag behind
        drawn = torch.randn(p.shape, generator=generator).to(p.dtype)
        if p.grad is None:
            p.grad = drawn
        else:
            p.grad.copy_(drawn)


@pytest.mark.parametrize("method", METHODS)
def test_replays_take_the_steps_that_come_next(method, monkeypatch):
    dtype = torch.bfloat16 if method in ("master", "stochastic") else torch.float32
    params, rate, optimizer = made(method, dtype)
    graph = Graph(monkeypatch)
    with using("triton"):
        for step in range(1, 5):
            fill(params, rate, step)
            optimizer.step()
        for p in params:
            p.grad = None  # as where the backward pass is captured too: gradients elsewhere
        fill(params, rate, 5)
        with graph:
            optimizer.step()
    assert graph.kernels == 1
    for step in range(6, 9):
        fill(params, rate, step)
        with torch.no_grad():
            graph.replay()
    with using("eager"):  # which asks the device for the count
        fill(params, rate, 9)
        optimizer.step()
    others, other_rate, other = made(method, dtype)
    with using("eager"):
        for step in range(1, 10):
            fill(others, other_rate, step)
            other.step()
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5 if dtype == torch.float32 else 0, atol=1e-6)
    assert [float(optimizer.state[p]["step"]) for p in params] == [9.0, 9.0, 8.0]


def test_a_step_that_counts_on_the_host_is_not_captured(monkeypatch):
    monkeypatch.setattr(cohort, "capturing", lambda device: True)
    p = nn.Parameter(torch.ones(3))
    optimizer = update.AdamW([p], lr=0.1)
    p.grad = torch.ones(3)
    for _ in range(2):
        with (
            using("triton"),
            pytest.raises(SoonerError, match="be captured in a CUDA graph, for it counts on the host"),
        ):
            optimizer.step()
    assert p.tolist() == [1.0] * 3
    assert optimizer.state[p]["step"] == 0


@pytest.mark.parametrize("name", ["adabelief", "nadamw", "clipped"])
def test_what_needs_the_count_or_sums_counts_on_the_host(name):

    def trained(executor):
        p = nn.Parameter(torch.ones(40))
        rate = torch.tensor(0.1)
        if name == "clipped":
            optimizer = update.AdamW([p], lr=rate)
            gradient.ClipNorm(optimizer, max_norm=1.0)
        else:
            optimizer = part.load(name)([p], lr=rate)  # rectified or not, by the count; a product over all steps
        for step in range(1, 8):
            p.grad = torch.linspace(-step, 1, 40)
            with using(executor):
                optimizer.step()
        assert not any(one.counts_there for _, one in optimizer._plan._cohorts)
        return p.detach()

    torch.testing.assert_close(trained("triton"), trained("eager"), rtol=1e-5, atol=1e-6)


def test_switching_to_a_number_counts_on_the_host_again():
    p = nn.Parameter(torch.ones(40))
    optimizer = update.AdamW([p], lr=torch.tensor(0.1))
    p.grad = torch.ones(40)
    with using("triton"):
        for _ in range(3):
            optimizer.step()
        ((_, one),) = optimizer._plan._cohorts
        assert one.counts_there
        saved = optimizer.state_dict()
        optimizer.param_groups[0]["lr"] = 0.1
        optimizer.step()
    assert saved["state"][0]["step"] == 3
    assert optimizer.state[p]["step"] == 4
    optimizer.load_state_dict(saved)
    with using("triton"):
        optimizer.step()
    assert optimizer.state[p]["step"] == 4


@pytest.mark.parametrize("name", ["adan", "ademamix", "diffgrad", "lion"])
def test_methods_that_work_by_element_count_on_the_device(name):
    def trained(executor):
        p = nn.Parameter(torch.linspace(-1, 1, 40))
        optimizer = part.load(name)([p], lr=torch.tensor(0.01))
        for step in range(1, 5):
            p.grad = torch.linspace(-step, 1, 40)
            with using(executor):
                optimizer.step()
        ((_, one),) = optimizer._plan._cohorts
        assert one.counts_there == (executor == "triton")
        assert optimizer.state[p]["step"] == 4
        return p.detach()

    torch.testing.assert_close(trained("triton"), trained("eager"), rtol=1e-5, atol=1e-6)
