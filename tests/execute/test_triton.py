"""Triton kernels, run by Triton's interpreter, take the steps of the reference, whatever shapes, dtypes and layouts."""

from types import SimpleNamespace

import pytest
import torch
from test_native import LAYOUTS, METHODS, assert_equal_steps, hyper_of, values
from torch import nn
from toys import Average, Clip, Fading, RowLengths, Toy, UnitRows, assert_same, parameters, stepped

from sooner import update
from sooner.execute import choice, fused, tables, using
from sooner.execute import triton as ours
from sooner.execute.trial import agrees

pytest.importorskip("triton")
pytestmark = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning:triton.runtime.interpreter"
)  # numpy's, of NaN and 0 / 0

SHAPES = [(), (0,), (1,), (3, 2), (0, 2), (2, 1, 3, 3), (32,), (7, 11)]
"""With blocks of 32: one that is a block, and one that is more than two, and no multiple of one."""

OTHERS = {
    torch.bfloat16: ("AdamW", "SGD", "SGDSaI", "Muon"),
    torch.float16: ("AdamW", "SGD"),
    torch.float64: ("AdamW", "SGDP"),
}
EVERY = [(m, torch.float32) for m in METHODS] + [
    (m, dtype) for dtype, names in OTHERS.items() for m in METHODS if m.__name__ in names
]


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(tables, "BLOCK", 32)


@pytest.fixture
def nothing_else(monkeypatch):
    """To fall back to the eager executor is an error."""

    def complain(rules, error):
        raise AssertionError(f"{', '.join(type(rule).__name__ for rule in rules)} run eagerly: {error}")

    monkeypatch.setattr(fused, "_say", complain)


def steps(start, count, forms=()):
    made = [[values(*p.shape, seed=100 * t + i).to(p.dtype) for i, p in enumerate(start)] for t in range(count)]
    return [[form(g) for form, g in zip(forms, step, strict=True)] for step in made] if forms else made


def run(method, executor, start, gradients, **hyper):
    params = [nn.Parameter(p.clone()) for p in start]
    optimizer = method(params, **hyper)
    for step in gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = g
        with using(executor):
            optimizer.step()
    return [p.detach() for p in params], [dict(optimizer.state[p]) for p in params]


@pytest.mark.parametrize(("method", "dtype"), EVERY, ids=lambda one: getattr(one, "__name__", str(one)))
def test_every_method_takes_the_steps_of_the_reference(method, dtype, nothing_else):
    start = [values(*shape, seed=i).to(dtype) for i, shape in enumerate(SHAPES)]
    hyper = hyper_of(method, weight_decay=0.1)
    found, expected = (run(method, executor, start, steps(start, 3), **hyper) for executor in ("triton", "eager"))
    assert_equal_steps(found, expected, start)


@pytest.mark.parametrize("options", [{"master_weights": True}, {"stochastic_rounding": True}, {"maximize": True}, {}])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_half_precision_is_kept_and_rounded_as_by_the_reference_to_the_last_bit(dtype, options, nothing_else):
    start = [values(*shape, seed=i).to(dtype) for i, shape in enumerate(SHAPES)]
    start[3][0, 0], start[3][1, 0] = float("nan"), -float("inf")
    found, expected = (run(update.AdamW, e, start, steps(start, 3), **options) for e in ("triton", "native"))
    for a, b in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    for a, b in zip(found[1], expected[1], strict=True):
        for slot in a:
            torch.testing.assert_close(a[slot], b[slot], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_of_parameters_and_gradients(layout, nothing_else):
    form = LAYOUTS[layout]
    start = [values(*shape, seed=i).float() for i, shape in enumerate(SHAPES)]
    gradients = steps(start, 2, [form] * len(start))
    expected = run(update.AdamW, "eager", start, gradients, weight_decay=0.1)
    params = [nn.Parameter(form(p)) for p in start]
    optimizer = update.AdamW(params, weight_decay=0.1)
    for step in gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = g
        version = params[-1]._version
        with using("triton"):
            optimizer.step()
        assert params[-1]._version > version
    for p, q in zip(params, expected[0], strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=1e-6, atol=1e-7)


def test_gradients_of_several_dtypes(nothing_else):
    start = [values(5, seed=1).float(), values(3, seed=2).float()]
    gradients = [[values(5, seed=3).bfloat16(), values(3, seed=4).float()] for _ in range(2)]

    def stepped(executor):
        optimizer = update.AdamW(params := [nn.Parameter(p.clone()) for p in start])
        for step in gradients:
            for p, g in zip(params, step, strict=True):
                p.grad_dtype = None
                p.grad = g
            with using(executor):
                optimizer.step()
        return params

    for p, q in zip(stepped("triton"), stepped("eager"), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


def groups(params):
    return [{"params": [p], "lr": 0.1 / (1 + i)} for i, p in enumerate(params)]


@pytest.mark.parametrize("method", [update.AdamW, update.SGD, update.AdamP])
def test_rates_and_step_counts_of_their_own_and_missing_gradients(method, nothing_else):
    def trained(executor):
        params = parameters([(4, 3), (3,), (4, 3), (), (40,)], torch.float32)
        optimizer = method(groups(params))
        for step in range(4):
            for i, p in enumerate(params):
                p.grad = values(*p.shape, seed=10 * step + i).float() if (step + i) % 3 else None
            with using(executor):
                optimizer.step()
        return [p.detach() for p in params], [dict(optimizer.state[p]) for p in params]

    found, expected = trained("triton"), trained("eager")
    for a, b in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    assert [s.get("step") for s in found[1]] == [s.get("step") for s in expected[1]]


def test_cohorts_of_one_program_share_a_launch(monkeypatch, nothing_else):
    launches = []
    together = ours.TritonStretch.run_together
    monkeypatch.setattr(ours.TritonStretch, "run_together", lambda some: launches.append(len(some)) or together(some))
    params = parameters([(4, 3), (3,), (5,)], torch.float32)
    optimizer = update.AdamW([{"params": [p], "weight_decay": 0.1 * i} for i, p in enumerate(params, 1)])
    stepped("triton", optimizer, params, 2)
    assert launches == [3, 3]


@pytest.mark.parametrize(
    "rules",
    [
        (Average(0.9), Clip(0.5)),  # the sums of a model end one launch, their number begins the next
        (UnitRows(), Average(0.5)),
        (RowLengths(0.1), Average(0.5)),  # numbers of rows that are kept
        (Fading(0.5),),  # a number per parameter, of no sum
    ],
    ids=lambda rules: type(rules[0]).__name__,
)
def test_sums_over_rows_parameters_and_the_model(rules, nothing_else):
    shapes = [(3, 4), (5,), (), (0,), (3, 4), (0, 3), (2, 50), (70,)]

    def trained(executor):
        params = parameters(shapes, torch.float64)
        return stepped(executor, Toy(params, lambda group: rules), params, 3)

    for a, b in zip(trained("triton")[0], trained("eager")[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_executors_take_turns(nothing_else):
    def trained(executors):
        params = parameters([(4, 3), (40,)], torch.float32)
        optimizer = update.AdamW(params, lr=0.1)
        for step, executor in enumerate(executors):
            for i, p in enumerate(params):
                p.grad = values(*p.shape, seed=10 * step + i).float()
            with using(executor):
                optimizer.step()
        return params

    mixed = trained(["triton", "native", "triton", "triton", "eager", "native", "native", "triton"])
    for p, q in zip(mixed, trained(["eager"] * 8), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


def test_it_is_what_auto_means_on_cuda_and_nowhere_else(monkeypatch):
    ran = []
    for name in ("run_triton", "run_native"):
        monkeypatch.setattr(choice, name, lambda work, name=name: ran.append(name))
    monkeypatch.delenv("TRITON_INTERPRET")
    for devices in (["cuda", "cuda:1"], ["cuda", "cpu"], ["cpu"], ["mps"], []):
        choice.run_auto([SimpleNamespace(cohort=SimpleNamespace(device=torch.device(one))) for one in devices])
    monkeypatch.setattr(ours, "installed", lambda: False)
    choice.run_auto([SimpleNamespace(cohort=SimpleNamespace(device=torch.device("cuda")))])
    assert ran == ["run_triton", *["run_native"] * 5]


def test_where_it_does_not_run_the_graph_of_inductor_does(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    ran = []
    monkeypatch.setattr(ours, "run_inductor", ran.append)
    stepped("triton", update.SGD(params := parameters([(3,)]), lr=0.1), params, 1)
    assert len(ran) == 1


def test_what_can_not_be_compiled_runs_eagerly_and_is_not_tried_again(monkeypatch, caplog, run_eagerly):
    tried = []

    class Broken:
        def __getitem__(self, grid):
            tried.append(grid)
            raise RuntimeError("Failed to find C compiler")

    ours._compiled.cache_clear()
    monkeypatch.setattr(ours, "load", lambda source: Broken())
    monkeypatch.setattr(ours, "interpreted", lambda: False)
    monkeypatch.setattr(ours, "serves", lambda device: True)
    params = parameters([(3, 4), (5,)])
    found = stepped("triton", update.AdamW(params), params, 3)
    ours._compiled.cache_clear()
    others = parameters([(3, 4), (5,)])
    assert_same(found, stepped("eager", update.AdamW(others), others, 3), rtol=0)
    assert tried == [(2,)]
    assert "triton can't compile a step" in caplog.text
    assert "Failed to find C compiler" in caplog.text
    assert len(run_eagerly()) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["AdamW", "SGDP", "SGDSaI", "Lion", "AdaBelief"])
def test_a_kernel_is_tried_before_it_is_used(name, dtype, monkeypatch):
    (method,) = (m for m in METHODS if m.__name__ == name)
    tried = []

    def tries(stretch):
        program, dtypes = stretch.program, stretch.dtypes()
        launch = ours._compiled(program.key(), *dtypes, torch.device("cpu"), True)
        wrong = ours._compiled(_one_off(program), *dtypes, torch.device("cpu"), True)
        tried.append([agrees(program, run, dtypes, torch.device("cpu"), 32) for run in (launch, wrong)])
        compile(stretch)

    compile = ours.TritonStretch.compile
    monkeypatch.setattr(ours.TritonStretch, "compile", tries)
    start = [values(3, 2, seed=1).to(dtype)]
    run(method, "triton", start, steps(start, 2), **hyper_of(method, weight_decay=0.1))
    assert tried
    assert {tuple(one) for one in tried} == {(True, False)}


def _one_off(program):
    """The program with twice of what it writes or adds up first."""
    inputs, lines, numbers, outputs, sums, stochastic = program.key()
    if outputs:
        (name, one), *more = outputs
        return inputs, (*lines, ("add", one, one)), numbers, ((name, ("line", len(lines))), *more), sums, stochastic
    return inputs, (*lines, ("add", sums[0], sums[0])), numbers, outputs, (("line", len(lines)), *sums[1:]), stochastic


def test_a_kernel_that_computes_other_numbers_is_not_used(monkeypatch, caplog):
    ours._compiled.cache_clear()
    monkeypatch.setattr(ours, "agrees", lambda *a: False)
    monkeypatch.setattr(ours, "interpreted", lambda: False)
    monkeypatch.setattr(ours, "serves", lambda device: True)
    params, others = parameters([(3, 4), (5,)]), parameters([(3, 4), (5,)])
    found = stepped("triton", update.AdamW(params), params, 2)
    ours._compiled.cache_clear()
    assert_same(found, stepped("eager", update.AdamW(others), others, 2), rtol=0)
    assert "other numbers than PyTorch" in caplog.text
