"""Cohorts compare their tensors in one call of C++ or in Python: both see every change, and nobody waits for either."""

import gc
import logging
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_compiler import Compiler
from torch import nn

import sooner.execute.compiler
from sooner import part
from sooner.error import SoonerError
from sooner.execute import fused, native, snapshot, using
from sooner.execute.replay import Tape, is_fixed
from sooner.transform import chain, sqrt
from sooner.update.adamw import AdamMoments


@pytest.fixture(scope="module")
def compiled(request):
    """The module, compiled once for all runs of the tests and kept beside what pytest keeps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOONER_CACHE", str(request.config.cache.mkdir("sooner-compiled")))
        module = snapshot.Helper().make()
    assert module is not None
    return module


@pytest.fixture(params=["C++", "Python"])
def comparing(request, monkeypatch):
    """Both ways of comparing."""
    helper = snapshot.Helper()
    helper.module = request.getfixturevalue("compiled") if request.param == "C++" else None
    helper._asked = snapshot.PATIENCE + 1
    use(helper, monkeypatch)
    return request.param


def use(helper, monkeypatch):
    for module in ("cohort", "snapshot"):
        monkeypatch.setattr(f"sooner.execute.{module}.HELPER", helper)


SHAPES = ((3, 4), (3, 4), (5,), (2, 3, 2, 2), (0,), ())


def parameters():
    made = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(s, generator=made)) for s in SHAPES]


def give(params, step):
    made = torch.Generator().manual_seed(step)
    for p in params:
        p.grad = torch.randn(p.shape, generator=made).to(p.dtype)


def swap(params, optimizer):
    state = optimizer.state.pop(params[0])
    new = nn.Parameter(torch.full((3, 4), 2.0))
    torch.utils.swap_tensors(params[0], new)
    optimizer.state[params[0]] = state


def of_first(name, change):
    def edit(params, optimizer):
        optimizer.state[params[0]][name] = change(optimizer.state[params[0]][name])

    return edit


CHANGES = {
    "nothing": lambda ps, o: None,
    "other memory": lambda ps, o: setattr(ps[0], "data", ps[0].data.clone()),
    "shared memory": lambda ps, o: setattr(ps[0], "data", ps[1].data),
    "transposed": lambda ps, o: setattr(ps[0], "data", ps[0].data.t().contiguous().t()),
    "every second": lambda ps, o: setattr(ps[0], "data", ps[0].data.repeat_interleave(2, -1)[:, ::2]),
    "double": lambda ps, o: setattr(ps[2], "data", ps[2].data.double()) or setattr(ps[2], "grad", None),
    "half": lambda ps, o: setattr(ps[2], "data", ps[2].data.bfloat16()) or setattr(ps[2], "grad", None),
    "frozen": lambda ps, o: ps[0].requires_grad_(False),
    "swapped": swap,
    "no gradient": lambda ps, o: setattr(ps[0], "grad", None),
    "gradient laid out otherwise": lambda ps, o: setattr(ps[0], "grad", ps[0].grad.t().contiguous().t()),
    "gradient shared": lambda ps, o: setattr(ps[0], "grad", ps[1].grad),
    "gradient negated": lambda ps, o: setattr(ps[0], "grad", torch._neg_view(-ps[0].grad)),
    "gradient double": lambda ps, o: setattr(ps[2], "grad", None) or setattr(ps[2], "data", ps[2].data.double()),
    "state replaced": of_first("exp_avg", torch.clone),
    "state strided": of_first("exp_avg", lambda t: t.t().contiguous().t()),
    "state double": of_first("exp_avg", torch.Tensor.double),
    "state gone": lambda ps, o: o.state[ps[0]].pop("exp_avg"),
    "all state gone": lambda ps, o: o.state.clear(),
    "steps set": lambda ps, o: o.state[ps[0]]["step"].fill_(7.0),
    "steps replaced": of_first("step", lambda t: torch.tensor(2.0)),
    "dict replaced": lambda ps, o: o.state.update({ps[0]: dict(o.state[ps[0]])}),
    "group shortened": lambda ps, o: o.param_groups[0]["params"].pop(),
    "decay": lambda ps, o: o.param_groups[0].update(weight_decay=0.3),
    "rate": lambda ps, o: o.param_groups[0].update(lr=0.3),
    "betas edited in place": lambda ps, o: o.param_groups[0]["betas"].__setitem__(0, 0.5),
}


def after(change, executor):
    params = parameters()
    optimizer = part.load("adamw")(params, betas=[0.8, 0.9], weight_decay=0.1)
    with using(executor):
        for step in range(9):
            give(params, step)
            if step == 5:
                change(params, optimizer)
            optimizer.step()
    return params, [optimizer.state.get(p, {}) for p in params]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_is_followed(comparing, change):
    (found, kept), (expected, wanted) = after(change, "native"), after(change, "eager")
    for p, q, state, right in zip(found, expected, kept, wanted, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-6)
        assert state.keys() == right.keys()
        for slot, value in state.items():
            torch.testing.assert_close(value, right[slot], rtol=1e-6, atol=1e-7)


def released(tensor):
    tensor.untyped_storage().resize_(0)


FREED = {
    "a parameter": (lambda ps, o: released(ps[0]), "parameter number 0 .* lost its memory"),
    "a gradient": (lambda ps, o: released(ps[0].grad), "parameter number 0 .* has a gradient that lost its memory"),
    "state": (lambda ps, o: released(o.state[ps[0]]["exp_avg"]), "parameter number 0 .* has exp_avg that lost its"),
    "a part": (lambda ps, o: ps[0].untyped_storage().resize_(16), "parameter number 0 .* lost its memory"),
}


@pytest.mark.parametrize("executor", ["native", "eager"])
@pytest.mark.parametrize(("change", "words"), FREED.values(), ids=FREED)
def test_memory_that_was_given_back_is_refused(comparing, executor, change, words):
    params = parameters()
    optimizer = part.load("adamw")(params)
    with using(executor):
        for step in range(4):
            give(params, step)
            optimizer.step()
        give(params, 4)
        change(params, optimizer)
        with pytest.raises(SoonerError, match=words):
            optimizer.step()


def test_a_step_leaves_versions_and_gradients_as_operations_of_torch_do(comparing):
    params = parameters()
    optimizer = part.load("adamw")(params)
    for step in range(5):
        give(params, step)
        before, uses = [p._version for p in params], [p.grad._use_count() for p in params]
        with using("native"):
            optimizer.step()
        assert [p._version for p in params] == [version + 1 for version in before]
        assert [p.grad._use_count() for p in params] == uses
        assert {float(kept["step"]) for kept in optimizer.state.values()} == {step + 1.0}


def test_what_refers_to_itself_is_collected(comparing):
    params = parameters()
    optimizer = part.load("adamw")(params)
    params[0].optimizer = optimizer
    for step in range(4):
        give(params, step)
        optimizer.step()
    gone = weakref.ref(params[1])
    del params, optimizer
    gc.collect()
    assert gone() is None


def test_steady_steps_are_compared_in_one_call(compiled, monkeypatch):
    helper = snapshot.Helper()
    helper.module = compiled
    use(helper, monkeypatch)
    params = parameters()
    optimizer = part.load("adamw")(params)
    followed = []
    follow = sooner.execute.Cohort._follow
    monkeypatch.setattr(sooner.execute.Cohort, "_follow", lambda self, *a: followed.append(1) or follow(self, *a))
    for step in range(6):
        give(params, step)
        with using("native"):
            optimizer.step()
    assert len(followed) == 1


# getting the module


class Blind:
    """A module whose snapshots say yes to everything."""

    class Snapshot:
        def __init__(self, *arguments):
            pass

        def __getattr__(self, name):
            return lambda *arguments: True


def test_what_does_not_pass_its_trial_is_not_used(compiled, monkeypatch):
    assert all(snapshot._trial(compiled))
    assert not all(snapshot._trial(Blind))
    assert snapshot.tried(compiled.__file__) is not None
    monkeypatch.setattr(snapshot, "_trial", lambda module: [True, False])
    with pytest.raises(ImportError, match=r"trial \(question 1\)"):
        snapshot.tried(compiled.__file__)


def test_headers_of_another_torch_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SOONER_CACHE", str(tmp_path))
    monkeypatch.setattr(torch, "__version__", "1.2.3+other")
    with pytest.raises(sooner.execute.compiler.NoCompilerError, match="not those of the torch that runs"):
        sooner.execute.compiler.build(snapshot.source(), snapshot.language(), snapshot.tried)
    assert list((tmp_path / "kernels").iterdir()) == []


@pytest.fixture
def cc(tmp_path, monkeypatch):
    """A stand-in for the compiler, and a cache of its own."""
    made = Compiler(tmp_path)
    monkeypatch.setenv("CC", str(made.path))
    monkeypatch.setenv("SOONER_CACHE", str(tmp_path / "cache"))
    sooner.execute.compiler.compiler.cache_clear()
    yield made
    sooner.execute.compiler.compiler.cache_clear()


def test_the_compiler_starts_after_many_steps_and_without_it_python_compares(cc, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="sooner.execute.snapshot")
    monkeypatch.setattr(snapshot, "PATIENCE", 3)
    cc.behave("echo no such header >&2; exit 1")
    helper = snapshot.Helper()
    for asked in range(6):
        assert helper.ask() is None
        helper._thread.join()
        assert cc.calls == (asked >= 3)
    assert helper.make() is None
    assert {r.levelno for r in caplog.records} == {logging.INFO}
    assert "compare their tensors in Python" in caplog.text
    assert "no such header" in caplog.text
    assert list((tmp_path / "cache" / "kernels").iterdir()) == []


def test_a_process_that_ends_takes_the_compiler_with_it(cc, tmp_path):
    cc.behave('case "$*" in *-shared*) exec sleep 60;; *) echo 1.0;; esac')
    helper = snapshot.Helper()
    thread = helper._begin(helper._compile)
    while not cc.calls:
        thread.join(0.01)
    helper._end()
    thread.join()
    assert helper.module is None
    assert list((tmp_path / "cache" / "kernels").iterdir()) == []


# doing a trace again


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(1e-6, 10.0)), min_size=1, max_size=5), st.floats(0.01, 0.99))
@settings(max_examples=20)
def test_a_tape_reckons_what_the_clock_itself_would(clocks, beta):
    def rule(step, rate):
        early = rate if step < 5 else -rate
        return [2 - beta**step, early / sqrt(1 - beta**step), 1 / (rate + step) * 3, step * step == 9]

    tape = Tape(7, 0.5)
    made = rule(tape.step, tape.rate)
    for step, rate in clocks:
        found = tape.again(step, rate)
        assert (found is None) == (step < 5)
        if found is not None:
            assert [found[one.place] for one in made] == rule(step, rate)


def test_a_tape_refuses_what_it_could_not_do_again():
    tape = Tape(1, 0.1)
    for wrong in (lambda: tape.step * torch.ones(2), lambda: torch.ones(2) / tape.step, lambda: float(tape.rate)):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError):
        hash(tape.step)
    assert Tape(0, 0.1).again(0, 0.1) == [0, 0.1]
    divided = Tape(2, 0.1)
    assert (1 / divided.step).value == 0.5
    assert divided.again(0, 0.1) is None


def test_only_what_nobody_can_change_in_place_is_fixed():
    assert is_fixed(chain(AdamMoments((0.9, 0.99), 1e-8)))
    for betas in ([0.9, 0.99], (0.9, torch.tensor(0.99))):
        assert not is_fixed(chain(AdamMoments(betas, 1e-8)))


@pytest.mark.parametrize("name", ["adamw", "sgd", "adabelief", "diffgrad", "lion"])
def test_steps_by_a_kept_program_are_those_of_a_trace(comparing, name, monkeypatch):
    def run():
        params = parameters()
        optimizer = part.load(name)(params)
        counts = []
        for step in range(14):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
            if step == 11:
                optimizer.param_groups[0]["weight_decay"] = 0.2
            give(params, step)
            traced.clear()
            with using("native"):
                optimizer.step()
            counts.append(len(traced))
        return params, optimizer, counts

    traced = []
    trace = fused.Stretch.trace
    monkeypatch.setattr(fused.Stretch, "trace", lambda self, *a: traced.append(1) or trace(self, *a))
    params, optimizer, counts = run()
    assert counts[9:] == [0, 0, 2, 0, 0]  # a kept program is traced twice, with the clock and without
    monkeypatch.setattr(native.NativeStretch, "keep", lambda self, *a: None)
    expected, other, counts = run()
    assert counts == [1] * 14
    assert all(map(torch.equal, params, expected))
    for p, q in zip(params, expected, strict=True):
        assert all(torch.equal(value, other.state[q][slot]) for slot, value in optimizer.state[p].items())
