"""Lazy checkpoints: the file is the state at the moment of `save`, whatever training does next; and what goes wrong."""

import copy
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies
from torch import nn

import sooner
from sooner.memory import LazySaver, _staging
from sooner.weights import EMA


class Net(nn.Module):
    """Tied weights, batch normalization, a frozen layer and a buffer that forward changes."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.norm, self.b = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.register_buffer("calls", torch.zeros(()))
        self.to(dtype)

    def forward(self, x):
        self.calls += 1
        return self.b(torch.tanh(self.norm(self.a(x)))) + self.frozen(x)


OPTIMIZERS = {
    "torch": lambda net: torch.optim.AdamW(net.parameters(), lr=0.1, foreach=True),
    "torch, fused": lambda net: torch.optim.AdamW(net.parameters(), lr=0.1, fused=True),
    "ours": lambda net: sooner.update.AdamW(net, lr=0.1),
}


def advance(net, optimizer, steps=1):
    for _ in range(steps):
        dtype = net.a.weight.dtype
        net(torch.randn(8, 4).to(dtype)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def now(net, optimizer):
    return copy.deepcopy({"model": net.state_dict(), "optimizer": optimizer.state_dict()})


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture
def held(monkeypatch):
    """Hold the copies back until something else than training is waited for."""
    go = threading.Event()
    copy_, tried = _staging._copy, threading.Event()

    def late(*args):
        tried.set()
        go.wait()
        copy_(*args)

    monkeypatch.setattr(_staging, "_copy", late)
    yield go
    go.set()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_file_is_the_state_at_the_moment_of_save_and_the_step_waits_for_it(tmp_path, held, name, dtype):
    net = Net(dtype)
    optimizer = OPTIMIZERS[name](net)
    saver = LazySaver(optimizer)
    advance(net, optimizer, 2)
    expected = now(net, optimizer)
    extra = {"step": 2, "random": torch.get_rng_state(), "losses": torch.ones(3), "nested": ([1.5, "x"], (None, True))}
    kept = copy.deepcopy(extra)
    saver.save(tmp_path / "a.pt", model=net, optimizer=optimizer, extra=extra)
    extra["losses"].zero_()  # what is no weight may change at once
    extra["nested"][0].append("later")
    for group in optimizer.param_groups:
        group["lr"] = 0.5
    stepped = threading.Thread(target=advance, args=(net, optimizer))
    stepped.start()
    stepped.join(0.05)
    assert stepped.is_alive()  # forward and backward are through, the step waits
    held.set()
    stepped.join()
    saver.flush()
    found = torch.load(tmp_path / "a.pt", weights_only=True)
    assert same({k: found[k] for k in expected}, expected)
    assert same(found["extra"], kept)
    assert not same(now(net, optimizer)["model"], expected["model"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt"]


def test_the_file_loads_into_a_new_model_and_goes_on_bit_for_bit(tmp_path):
    net = Net()
    optimizer = sooner.update.AdamW(net, lr=0.1)
    saver = LazySaver(optimizer)
    advance(net, optimizer, 3)
    saver.save(tmp_path / "a.pt", model=net, optimizer=optimizer, random=torch.get_rng_state())
    advance(net, optimizer, 3)
    saver.flush()
    other = Net()
    resumed = sooner.update.AdamW(other, lr=0.1)
    found = torch.load(tmp_path / "a.pt", weights_only=True)
    assert found["model"]._metadata["norm"]["version"] == 2
    other.load_state_dict(found["model"])
    resumed.load_state_dict(found["optimizer"])
    torch.set_rng_state(found["random"])
    advance(other, resumed, 3)
    assert same(now(net, optimizer), now(other, resumed))


def test_tied_weights_are_in_the_file_once(tmp_path):
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    saver = LazySaver(optimizer)
    saver.save(tmp_path / "a.pt", model=net, again=net.state_dict(), buffers=[net.calls, net.calls])
    saver.flush()
    found = torch.load(tmp_path / "a.pt", weights_only=True)
    for model in (found["model"], found["again"]):
        assert model["a.weight"].data_ptr() == model["b.weight"].data_ptr()
    assert found["buffers"][0].data_ptr() == found["buffers"][1].data_ptr()


@settings(deadline=None, max_examples=15)
@given(
    shape=strategies.lists(strategies.integers(0, 5), max_size=4),
    dtype=strategies.sampled_from([torch.float64, torch.float16, torch.bfloat16, torch.complex64]),
    layout=strategies.sampled_from(["plain", "transposed", "part", "channels last", "expanded"]),
)
def test_tensors_of_any_layout_arrive_as_they_are(tmp_path_factory, shape, dtype, layout):
    p = torch.randn(shape, dtype=torch.float32).to(dtype)
    if layout == "transposed" and p.ndim > 1:
        p = p.transpose(0, 1)
    elif layout == "part" and p.ndim:
        p = p[:, ::2] if p.ndim > 1 else p[::2]
    elif layout == "channels last" and p.ndim == 4:
        p = p.contiguous(memory_format=torch.channels_last)
    elif layout == "expanded":
        p = p.expand(2, *p.shape)
    folder = tmp_path_factory.mktemp("any")
    with LazySaver(torch.optim.SGD([nn.Parameter(p)], lr=0.1)) as saver:
        saver.save(folder / "a.pt", p=p, view=p.view_as(p), parts=[p, p])
    found = torch.load(folder / "a.pt", weights_only=True)
    assert all(same(one, p) for one in (found["p"], found["view"], *found["parts"]))


def test_buffers_of_earlier_checkpoints_are_used_again_also_when_shapes_change(tmp_path):
    p, q = (nn.Parameter(torch.randn(n, 3)) for n in (2000, 5))
    optimizer = torch.optim.SGD([p], lr=0.1)
    saver = LazySaver(optimizer, keep=None)
    before = []
    for step in range(3):
        saver.save(tmp_path / f"{step}.pt", p=p, q=q)
        saver.flush()
        kept = [b.data_ptr() for buffers in saver._staging._buffers.values() for b in buffers]
        with torch.no_grad():
            p.add_(1)
        if step == 1:
            assert kept == before
            optimizer.add_param_group({"params": [q]})
        before = kept
    assert len(kept) == 2
    assert [float(torch.load(tmp_path / f"{s}.pt", weights_only=True)["p"][0, 0]) for s in range(3)] == pytest.approx(
        [float(p[0, 0].detach()) - 3 + s for s in range(3)]
    )


def test_what_other_optimizers_move_is_copied_at_once_and_all_given_ones_wait(tmp_path, held):
    a, b, c = (nn.Parameter(torch.zeros(2000)) for _ in range(3))
    optimizers = [torch.optim.SGD([p], lr=1.0) for p in (a, b, c)]
    saver = LazySaver(optimizers[:2])
    saver.save(tmp_path / "a.pt", a=a, b=b, c=c)
    c.grad = torch.ones(2000)
    optimizers[2].step()  # not given, so nothing waits
    held.set()
    for p, optimizer in zip((a, b), optimizers, strict=False):
        p.grad = torch.ones(2000)
        optimizer.step()
    saver.flush()
    assert all(not v.any() for v in torch.load(tmp_path / "a.pt", weights_only=True).values())


def test_whoever_writes_into_weights_by_hand_waits_or_the_checkpoint_is_refused(tmp_path, held):
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    saver = LazySaver(optimizer)
    saver.save(tmp_path / "a.pt", model=net)
    with torch.no_grad():
        net.a.weight.zero_()
    held.set()
    with pytest.raises(sooner.SoonerError, match="written to before they were copied, so this checkpoint is left out"):
        saver.flush()
    assert not list(tmp_path.iterdir())
    held.clear()
    saver.save(tmp_path / "a.pt", model=net)
    held.set()
    saver.wait()
    with torch.no_grad():
        net.a.weight.fill_(2.0)
    saver.flush()
    assert not torch.load(tmp_path / "a.pt", weights_only=True)["model"]["a.weight"].any()


def test_a_view_waits_for_copies_and_saving_inside_it_is_refused(tmp_path, held):
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    ema, saver = EMA(net, 0.5), LazySaver(optimizer)
    advance(net, optimizer)
    ema.after_step()
    advance(net, optimizer)
    ema.after_step()
    expected = now(net, optimizer)
    saver.save(tmp_path / "a.pt", model=net, average=ema)
    view = ema.view()
    looked = threading.Thread(target=view.__enter__)
    looked.start()
    looked.join(0.05)
    assert looked.is_alive()
    held.set()
    looked.join()
    for what in (net, net.state_dict(), {"all": [net.a.weight.detach()]}):
        with pytest.raises(
            sooner.SoonerError, match=r"save\(\) inside view\(\) would copy weights while they are given"
        ):
            saver.save(tmp_path / "b.pt", model=what)
    saver.save(tmp_path / "other.pt", model=Net())  # another model is no matter
    saver.flush()
    found = torch.load(tmp_path / "a.pt", weights_only=True)
    assert same(found["model"], expected["model"])
    assert found["average"]["steps"] == 2
    view.__exit__(None, None, None)
    assert same(now(net, optimizer), expected)


def test_the_newest_are_kept_and_a_name_counts_once(tmp_path):
    net = Net()
    saver = LazySaver(torch.optim.SGD(net.parameters(), lr=0.1), keep=2)
    (tmp_path / "mine.pt").write_text("of somebody else")
    for name in ("a", "b", "b", "c", "d"):
        saver.save(tmp_path / f"{name}.pt", model=net)
    saver.flush()
    assert sorted(p.stem for p in tmp_path.iterdir()) == ["c", "d", "mine"]
    with LazySaver(torch.optim.SGD(net.parameters(), lr=0.1), keep=None) as everything:
        for name in "efg":
            everything.save(tmp_path / f"{name}.pt", model=net)
    assert len(list(tmp_path.iterdir())) == 6


def test_a_failed_write_is_told_by_the_next_call_and_leaves_what_was_there(tmp_path, monkeypatch, caplog):
    net = Net()
    saver = LazySaver(torch.optim.SGD(net.parameters(), lr=0.1))
    saver.save(tmp_path / "a.pt", model=net)
    saver.flush()
    before = (tmp_path / "a.pt").read_bytes()

    def full(content, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    saver.save(tmp_path / "a.pt", model=net)
    with pytest.raises(sooner.SoonerError, match=r"a.pt can't be written: \[Errno 28\] No space left on device; those"):
        saver.flush()
    assert "No space left" in caplog.text
    saver.flush()  # told once
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    assert (tmp_path / "a.pt").read_bytes() == before
    monkeypatch.undo()
    saver.save(tmp_path / "b.pt", model=net)
    saver.flush()
    assert (tmp_path / "b.pt").exists()


def test_a_full_disk_in_earnest(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    (tmp_path / "a.pt.incomplete").symlink_to("/dev/full")
    net = nn.Linear(300, 300)
    saver = LazySaver(torch.optim.SGD(net.parameters(), lr=0.1))
    saver.save(tmp_path / "a.pt", model=net)
    with pytest.raises(sooner.SoonerError, match=r"a\.pt can't be written: .*; those before it are untouched"):
        saver.flush()
    assert not list(tmp_path.iterdir())


def test_a_place_that_can_not_be_written_to_is_refused_at_once(tmp_path, monkeypatch):
    net = Net()
    saver = LazySaver(torch.optim.SGD(net.parameters(), lr=0.1))
    with pytest.raises(sooner.SoonerError, match=r"has no place: the folder .*nowhere does not exist; make it first"):
        saver.save(tmp_path / "nowhere" / "a.pt", model=net)
    with pytest.raises(sooner.SoonerError, match=r"is a folder; give the name of a file"):
        saver.save(tmp_path, model=net)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(sooner.SoonerError, match="no right to write in"):
        saver.save(tmp_path / "a.pt", model=net)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.zeros(3), r"extra\['x'\] is a numpy.ndarray, .* give torch.from_numpy of it"),
        (object(), r"extra\['x'\] is a builtins.object, .* give its state_dict\(\) or plain values"),
        ([1, {"y": frozenset()}], r"extra\['x'\]\[1\]\['y'\] is a builtins.frozenset"),
        (torch.empty(2, device="meta"), r"extra\['x'\] is on the meta device and has no numbers"),
    ],
)
def test_what_plain_loading_would_refuse_is_refused_before(tmp_path, value, said):
    saver = LazySaver(torch.optim.SGD(Net().parameters(), lr=0.1))
    with pytest.raises(sooner.SoonerError, match=said):
        saver.save(tmp_path / "a.pt", extra={"x": value})
    saver.save(tmp_path / "a.pt", extra={"x": np.float64(1.5), "flag": np.bool_(True), 3: {torch.float32, "a"}})
    saver.flush()
    found = torch.load(tmp_path / "a.pt", weights_only=True)
    assert found["extra"] == {"x": 1.5, "flag": True, 3: {torch.float32, "a"}}


def test_arguments_that_can_not_work_are_refused():
    optimizer = torch.optim.SGD(Net().parameters(), lr=0.1)
    with pytest.raises(sooner.SoonerError, match=r"lazy_saver: keep=0 is not a whole number in \[1, inf\)"):
        LazySaver(optimizer, keep=0)
    with pytest.raises(sooner.SoonerError, match="no optimizer to wait with"):
        LazySaver([])
    with pytest.raises(sooner.SoonerError, match="Net has no hooks for its step"):
        LazySaver(Net())


def test_wrapped_compiled_copied_and_pickled(tmp_path):
    class Wrapper:
        def __init__(self, optimizer):
            self.optimizer = optimizer

    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    compiled = torch.compile(net, backend="eager")
    saver = LazySaver(Wrapper(optimizer))
    advance(net, optimizer)
    saver.save(tmp_path / "a.pt", model=compiled)
    saver.flush()
    assert torch.load(tmp_path / "a.pt", weights_only=True)["model"].keys() == net.state_dict().keys()
    net2, optimizer2, saver2 = copy.deepcopy((net, optimizer, saver))
    assert saver2._optimizers != saver._optimizers
    for made in (saver2, LazySaver(optimizer2)):
        made.save(tmp_path / "b.pt", model=net2, optimizer=optimizer2)
        expected = now(net2, optimizer2)
        advance(net2, optimizer2)
        made.flush()
        assert same(torch.load(tmp_path / "b.pt", weights_only=True), expected)
    saver2.detach()
    assert len(optimizer2._optimizer_step_pre_hooks) == 1  # that of the second one made
    assert pickle.loads(pickle.dumps(LazySaver(optimizer, keep=5))).keep == 5


def test_the_wait_stays_outside_of_compiled_graphs():
    saver = LazySaver(torch.optim.SGD(Net().parameters(), lr=0.1))
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"LazySaver\._before_step"):
        torch.compile(lambda x: (saver._before_step(), x + 1), fullgraph=True, backend="eager")(torch.ones(2))


def test_a_frozen_teacher_that_forward_moves_is_copied_at_once(tmp_path, held):
    net = Net()
    saver = LazySaver(torch.optim.SGD([net.a.weight], lr=0.1))
    teacher = nn.Linear(40, 40).requires_grad_(False)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    saver.save(tmp_path / "a.pt", model=net, teacher=teacher)
    teacher.weight.mul_(2)
    held.set()
    saver.flush()
    assert same(dict(torch.load(tmp_path / "a.pt", weights_only=True)["teacher"]), before)


def test_parts_that_write_weights_before_the_step_wait(tmp_path, held):
    from sooner.gradient import DeepZero
    from sooner.objective import Objective

    net = nn.Linear(2, 2)
    saver = LazySaver(torch.optim.SGD(net.parameters(), lr=0.1))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    saver.save(tmp_path / "a.pt", model=net)
    objective = Objective(net, lambda model, x: model(x).square().mean(), [torch.ones(3, 2)])
    source = DeepZero(directions=2, sparsity=0.5)
    at_work = threading.Thread(target=source.backward, args=(objective,))
    at_work.start()
    at_work.join(0.05)
    assert at_work.is_alive()
    held.set()
    at_work.join()
    saver.flush()
    assert same(dict(torch.load(tmp_path / "a.pt", weights_only=True)["model"]), before)
