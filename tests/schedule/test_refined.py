"""The refined schedule against the published steps, its exact cases, and what becomes of bad norms."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sooner
from sooner.schedule import Linear, Refined
from sooner.schedule.refined import NormLog, refine


def optimizer(method=torch.optim.SGD):
    return method([nn.Parameter(torch.zeros(1))], lr=1.0)


def published(norms, exponent, share=0.1):
    """The refinement step by step in plain Python, for as many points as there are norms (the last one gets 0)."""
    n = len(norms)
    half = int(share * n / 2)
    mirrored = [norms[n - 2 - i] for i in range(2 * (2 * half + 1))]
    padded = [norms[0]] * half + list(norms) + mirrored
    smooth = [sorted(padded[i : i + 2 * half + 1])[half] for i in range(n)]
    w = [g**exponent for g in smooth]
    rates = [w[t] * sum(w[t + 1 :]) / sum(w) for t in range(n)]
    return [r / max(rates) for r in rates]


@pytest.mark.parametrize(("kind", "exponent"), [("sgd", -2.0), ("adam", -1.0)])
def test_it_is_the_published_refinement(kind, exponent):
    generator = np.random.default_rng(3)
    norms = np.exp(0.3 * generator.standard_normal(105)) * np.linspace(2, 1, 105)
    # two norms at each end are dropped; 101 are left for 100 steps and the point after the last
    found = refine(norms, steps=100, kind=kind, cap=1e6)
    assert found == pytest.approx(published(norms[2:-2].tolist(), exponent), abs=1e-12)
    assert found[-1] == 0.0


@pytest.mark.parametrize("count", [8, 60, 104, 105, 1000, 30_000])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_constant_norms_give_linear_decay(count, kind):
    linear = Linear(optimizer(), 100, warmup=0.0)
    made = Refined(optimizer(), 100, norms=[0.3] * count, kind=kind)
    assert max(abs(made.factor(t) - linear.factor(t)) for t in range(120)) < 1e-15


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_without_norms_it_is_linear_decay_after_a_warm_up(steps):
    linear, made = Linear(optimizer(), steps), Refined(optimizer(), steps)
    assert [made.factor(t) for t in range(steps + 3)] == [linear.factor(t) for t in range(steps + 3)]


@given(
    norms=st.lists(st.floats(1e-3, 1e3), min_size=8, max_size=80),
    steps=st.integers(1, 120),
    floor=st.floats(0, 0.9),
    kind=st.sampled_from(["sgd", "adam"]),
)
def test_any_norms_give_factors_between_the_floor_and_1_that_end_at_the_floor(norms, steps, floor, kind):
    made = Refined(optimizer(), steps, norms=norms, kind=kind, floor=floor)
    found = [made.factor(t) for t in range(steps + 2)]
    assert all(floor <= f <= 1 for f in found)
    assert max(found) == pytest.approx(1.0, abs=1e-15)
    assert found[steps:] == [floor, floor]
    twice = Refined(optimizer(), steps, norms=[7.0 * g for g in norms], kind=kind, floor=floor)
    assert [twice.factor(t) for t in range(steps)] == pytest.approx(found[:steps], rel=1e-9)


def test_an_early_spike_becomes_a_warm_up_and_falling_norms_keep_the_rate_up():
    spiked = [8.0] * 60 + [1.0] * 940
    found = Refined(optimizer(), 1000, norms=spiked, kind="sgd")
    assert max(found.factor(t) for t in range(20)) < 0.5
    assert found.factor(80) > 0.9
    falling = Refined(optimizer(), 1000, norms=np.linspace(3, 1, 1000), kind="sgd")
    rising = Refined(optimizer(), 1000, norms=np.linspace(1, 3, 1000), kind="sgd")
    assert falling.factor(700) > 0.3 + 0.2
    assert rising.factor(700) < 0.3 - 0.2


def test_a_lone_spike_in_the_middle_leaves_no_trace():
    norms = [1.0] * 500
    norms[250] = 1e6
    assert refine(norms, 100, "sgd") == pytest.approx(refine([1.0] * 500, 100, "sgd"), abs=1e-15)


def test_the_cap_bounds_what_norms_can_do():
    vanishing = [1.0] * 800 + [1e-9] * 200
    factors = refine(vanishing, 1000, "sgd", cap=2.0)
    assert factors[0] > 0.25 * 0.99
    assert refine(vanishing, 1000, "sgd", cap=1.0) == pytest.approx(refine([1.0] * 1000, 1000, "sgd"), abs=1e-15)
    with_zeros = [1.0] * 800 + [0.0] * 200
    assert all(map(math.isfinite, refine(with_zeros, 1000, "sgd")))


def test_a_warm_up_given_with_norms_is_an_upper_bound():
    made = Refined(optimizer(), 100, norms=[1.0] * 50, warmup=0.1)
    bound, free = Linear(optimizer(), 100, warmup=0.1), Linear(optimizer(), 100, warmup=0.0)
    for t in range(10):
        assert made.factor(t) == pytest.approx(min(bound.factor(t), free.factor(t)), abs=1e-15)


def test_the_kind_follows_the_file_then_the_optimizer(tmp_path):
    norms = np.linspace(3, 1, 50).tolist()
    sgd, adam = (refine(norms, 20, kind) for kind in ("sgd", "adam"))
    assert Refined(optimizer(), 20, norms=norms).table == sgd
    assert Refined(optimizer(torch.optim.AdamW), 20, norms=norms).table == adam
    assert Refined(optimizer(), 20, norms=norms, kind="adam").table == adam
    assert Refined(optimizer(sooner.update.SGD), 20, norms=norms).table == sgd
    (tmp_path / "log.json").write_text(json.dumps({"kind": "adam", "norms": norms}))
    assert Refined(optimizer(), 20, norms=tmp_path / "log.json").table == adam
    with pytest.raises(sooner.SoonerError, match="holds norms of kind 'adam', not 'sgd'; drop kind="):
        Refined(optimizer(), 20, norms=tmp_path / "log.json", kind="sgd")


@pytest.mark.parametrize("name", ["n.json", "n.csv", "n.txt"])
def test_every_file_that_is_written_is_read_back(tmp_path, name):
    net = nn.Linear(3, 2)
    driven = torch.optim.AdamW(net.parameters())
    log = NormLog(driven)
    for step in range(12):
        net(torch.ones(1, 3) * (step + 1)).square().sum().backward()
        driven.step()
        driven.zero_grad()
    log.save(tmp_path / name)
    read = Refined(optimizer(torch.optim.AdamW), 30, norms=str(tmp_path / name))
    assert read.table == refine(log.norms().tolist(), 30, "adam")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "[1, 1, 1, 1, 2, 2, 2, 2, 2]"),
        ("a.csv", "1\n1\n1\n1\n2\n2\n2\n2\n2\n"),
        ("a.csv", "step,norm,loss\n" + "".join(f"{i},{1 if i < 4 else 2},0.5\n" for i in range(9))),
        ("a.csv", "gradient norm\r\n1\r\n1\r\n1\r\n1\r\n2\r\n2\r\n2\r\n2\r\n\r\n2\r\n"),
        ("a.txt", "1 1 1 1\n2 2 2 2 2\n"),
    ],
)
def test_files_may_be_written_by_other_tools(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    made = Refined(optimizer(), 10, norms=tmp_path / name)
    assert made.table == refine([1.0] * 4 + [2.0] * 5, 10, "sgd")


BAD_FILES = [
    ("a.json", "[1, 2", "a.json is not JSON .*; write it with NormLog.save"),
    ("a.json", '{"norm": [1]}', 'a.json holds no list of norms; write a list, or an object with "norms"'),
    ("a.json", '{"kind": "lion", "norms": []}', "a.json: kind='lion' is not 'sgd'"),
    ("a.json", "[1, 1, 1, NaN, 1, 1, 1, 1, 1]", "a.json holds nan at step 3, which is no finite norm of at least 0"),
    ("a.json", "[1, 1, null, 1, 1, 1, 1, 1, 1]", "a.json holds None at step 2"),
    ("a.json", "[1, 1, true, 1, 1, 1, 1, 1, 1]", "a.json holds True at step 2"),
    ("a.csv", "step,loss\n1,2\n", "a.csv has no column norm among step, loss; name one of them norm"),
    ("a.csv", "1,2\n1,2\n", "a.csv has 2 columns without names; name the one to read norm"),
    ("a.csv", "norm\n1\n2\nthree\n", "a.csv holds 'three' at step 2"),
    ("a.csv", "step,norm\n1,2\n2\n", "a.csv holds '' at step 1"),
    ("a.csv", "", "a.csv holds 0 norms, too few for a schedule; log at least 8 steps"),
    ("a.txt", "1 2 3 -4 5 6 7 8 9", "a.txt holds '-4' at step 3"),
    ("a.txt", "1 2 3 inf 5 6 7 8 9", "a.txt holds 'inf' at step 3.*leave out the steps"),
    ("a.txt", "1 2 3", "a.txt holds 3 norms, too few"),
    ("a.txt", b"\xff\xfe\x00", "a.txt is not a text file"),
    ("a.dat", "1 2 3", "a.dat is no file of norms; give one that ends in .json, .csv or .txt"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), BAD_FILES)
def test_a_bad_file_is_refused_in_one_sentence_and_nothing_is_changed(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    driven = optimizer()
    before = copy.deepcopy(driven.state_dict())
    with pytest.raises(sooner.SoonerError, match=sentence):
        Refined(driven, 10, norms=tmp_path / name)
    assert driven.state_dict() == before
    assert "step" not in vars(driven)  # no scheduler got hold of it


@pytest.mark.parametrize(
    ("norms", "sentence"),
    [
        ("missing.json", "missing.json can't be read: No such file or directory; write it with NormLog.save"),
        (3, "norms=3 is not a list of numbers; give one norm per step, or a file"),
        (torch.tensor(3.0), "is not a list of numbers"),
        ([1.0] * 7, "norms holds 7 norms, too few"),
        ([1.0] * 8 + [math.nan], "norms holds nan at step 8"),
        (torch.tensor([1.0, -1.0] * 8), "norms holds -1.0 at step 1"),
        ([0.0] * 20, "most norms are 0"),
    ],
)
def test_bad_norms_are_refused_in_one_sentence(norms, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        Refined(optimizer(), 10, norms=norms)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"kind": "adma"}, r"kind='adma' \(did you mean 'adam'\?\) is not 'sgd'"),
        ({"smooth": 2.0}, "refined: smooth=2.0"),
        ({"cap": 0.5}, "refined: cap=0.5"),
        ({"warmup": 1.0}, "refined: warmup=1.0"),
        ({"floor": -1}, "refined: floor=-1"),
        ({"steps": 0}, "refined: steps=0"),
    ],
)
def test_a_bad_number_is_named(settings, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        Refined(optimizer(), **{"steps": 10, "norms": [1.0] * 20, **settings})


def test_the_state_carries_the_table():
    driven, other = optimizer(), optimizer()
    made = Refined(driven, 20, norms=np.linspace(5, 1, 30))
    rates = []
    for _ in range(20):
        rates.append(driven.param_groups[0]["lr"])
        driven.step()
        made.step()
    again = Refined(optimizer(), 20, norms=np.linspace(5, 1, 30))
    resumed = Refined(other, 20)  # the file of norms may be gone by then
    for _ in range(7):
        again.optimizer.step()
        again.step()
    other.load_state_dict(again.optimizer.state_dict())
    resumed.load_state_dict(again.state_dict())
    for expected in rates[7:]:
        assert other.param_groups[0]["lr"] == expected
        other.step()
        resumed.step()


# the log


class Halves(nn.Module):
    """Parameters of three precisions and one without a gradient."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.full((3,), 300.0, dtype=torch.float16))
        self.b = nn.Parameter(torch.tensor([[1.0, -2.0]]))
        self.c = nn.Parameter(torch.tensor([4.0], dtype=torch.float64))
        self.unused = nn.Parameter(torch.ones(2))

    def loss(self):
        return (self.a.float() * 40_000.0).sum() + (self.b * 2).sum() + self.c.float().sum()


@pytest.mark.parametrize(
    ("kind", "expected"), [("adam", 3 * 40_000.0 + 4 + 1), ("sgd", math.sqrt(3 * 40_000.0**2 + 9))]
)
def test_the_log_holds_the_norm_of_all_gradients(kind, expected):
    net = Halves()
    driven = torch.optim.SGD(net.parameters(), lr=0.0)
    log = NormLog(driven, kind)
    for _ in range(3):
        net.loss().backward()
        driven.step()
        driven.zero_grad()
    driven.step()  # no gradients, no entry
    assert log.norms().tolist() == pytest.approx([expected] * 3, rel=1e-6)
    log.detach()
    log.detach()
    net.loss().backward()
    driven.step()
    assert len(log.norms()) == 3


def test_sparse_gradients_count():
    table = nn.Embedding(5, 2, sparse=True)
    driven = torch.optim.SGD(table.parameters(), lr=0.1)
    log = NormLog(driven, "adam")
    table(torch.tensor([1, 1, 3])).sum().backward()
    driven.step()
    assert log.norms().tolist() == [6.0]


def test_a_long_log_stays_whole_and_goes_on_after_a_stop():
    p = nn.Parameter(torch.zeros(1))
    driven = torch.optim.SGD([p], lr=0.1)
    log = NormLog(driven)
    for step in range(2500):
        p.grad = torch.tensor([float(step)])
        driven.step()
    assert log.norms().tolist() == list(range(2500))
    resumed = NormLog(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1), "adam")
    resumed.load_state_dict(log.state_dict())
    assert resumed.kind == "sgd"
    assert torch.equal(resumed.norms(), log.norms())


def test_norms_before_clipping_are_logged_by_hand():
    p = nn.Parameter(torch.zeros(2))
    driven = torch.optim.SGD([p], lr=0.1)
    by_itself, by_hand = NormLog(driven), NormLog(driven, attach=False)
    p.grad = torch.tensor([3.0, 4.0])
    by_hand.record()
    nn.utils.clip_grad_norm_([p], 1.0)
    driven.step()
    assert by_hand.norms().tolist() == [5.0]
    assert by_itself.norms().tolist() == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("norms.pt", "give a name that ends in .json, .csv or .txt"),
        ("no/folder.txt", "No such file or directory; give an"),
    ],
)
def test_a_log_that_can_not_be_written_says_why(tmp_path, name, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        NormLog(optimizer()).save(tmp_path / name)


def test_in_a_recipe(tmp_path):
    (tmp_path / "n.txt").write_text("1 " * 20)
    recipe = sooner.Recipe(f"adamw(lr=1.0) + refined(norms={str(tmp_path / 'n.txt')!r})")
    assert sooner.Recipe(str(recipe)) == recipe
    training = recipe.build(nn.Linear(2, 2), steps=4)
    for expected in (1.0, 0.75, 0.5, 0.25, 0.0):
        assert training.learning_rates() == [pytest.approx(expected)]
        training.step()
