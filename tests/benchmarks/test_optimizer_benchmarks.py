"""The benchmarks of optimizers run, on lists so small that their figures mean nothing."""

import functools
import importlib
import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
TINY = {
    "small": {"layers": 2, "width": 8},
    "middle": {"layers": 2, "width": 2},
    "gpt2": {"width": 8, "depth": 1, "vocabulary": 11, "context": 4},
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Where compiled code is kept: a place of these tests, as what they compile is the same."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def load(monkeypatch, cache):
    """Import a benchmark as `python benchmarks/NAME.py` does, with tiny lists and short blocks."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("SOONER_CACHE", str(cache))
    before = set(sys.modules)
    threads = torch.get_num_threads()
    lists, timing = importlib.import_module("_lists"), importlib.import_module("_interleaved")
    tiny = {name: functools.partial(lists.LISTS[name], **sizes) for name, sizes in TINY.items()}
    monkeypatch.setattr(lists, "LISTS", tiny)
    monkeypatch.setattr(timing, "BLOCK_SECONDS", 0.0)
    yield importlib.import_module
    torch.set_num_threads(threads)
    for path in FOLDER.glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)


def rows(printed, name):
    return [line.split() for line in printed.splitlines() if line.strip().startswith(name)]


@pytest.mark.parametrize(
    ("name", "tensors", "parameters"), [("small", 150, 965_280), ("middle", 60, 31_522_560), ("gpt2", 148, 124_439_808)]
)
def test_the_lists_are_as_described(load, name, tensors, parameters):
    lists = load("_lists")
    with torch.device("meta"):
        model = getattr(lists, name)()
    assert len(list(model.parameters())) == tensors
    assert lists.count(model) == parameters


def test_matrices_are_what_muon_is_for(load):
    lists = load("_lists")
    matrices, rest = lists.matrices_and_rest(lists.make("small"), "small")
    assert [tuple(p.shape) for p in matrices] == [(8, 8)] * 2
    assert len(rest) == 8
    matrices, rest = lists.matrices_and_rest(lists.make("gpt2"), "gpt2")
    assert [tuple(p.shape) for p in matrices] == [(24, 8), (8, 8), (32, 8), (8, 32)]
    assert {tuple(p.shape) for p in rest if p.ndim == 2} == {(11, 8), (4, 8)}  # embeddings; the output layer is shared


def test_lists_and_gradients_are_the_same_every_time(load):
    lists = load("_lists")
    ours, again = (list(lists.make("gpt2").parameters()) for _ in range(2))
    assert all(torch.equal(a, b) and torch.equal(a.grad, b.grad) for a, b in zip(ours, again, strict=True))


def test_update_step_prints_a_row_for_every_part_and_executor(load, capsys):
    benchmark = load("update_step")
    benchmark.main(
        lists=("gpt2",), recipes="adamw; normalized_gd", executors=("native", "eager"), threads=(1,), rounds=2
    )
    printed = capsys.readouterr().out
    assert printed.startswith("== gpt2: 16 tensors, 0.00 million parameters, float32, threads: 1\n")
    for executor in ("native", "eager"):
        (adamw,) = rows(printed, f"adamw [{executor}]")
        assert adamw[-2:] == ["<=", "1.00"]  # what AdamW moves over what fused AdamW moves
        assert float(adamw[-4]) == pytest.approx(8, abs=0.1)
        (plain,) = rows(printed, f"normalized_gd [{executor}]")
        assert float(plain[-2]) == pytest.approx(0, abs=0.1)
        assert "<=" not in plain  # needs a sum, so it has no target
    assert printed.count("beside torch AdamW (fused) at") == 2


def test_update_step_times_all_parts_that_work_by_elements_and_names_the_others(load, capsys):
    candidates = load("_candidates")
    chosen = candidates.updates()
    printed = capsys.readouterr().out
    from sooner import part

    updates = {name for name, station in part.names().items() if station == "update"}
    named = {text.partition("(")[0] for text in chosen}
    assert {"adamw", "sgd", "adabelief"} <= named <= updates
    assert all(f"not timed: {name}: " in printed for name in updates - named)
    assert "not timed: muon: it works on whole matrices" in printed
    assert "normalized_logistic_gd: it evaluates the loss at every step" in printed
    assert "sophia_g(every=1000000000)" in chosen


def test_update_step_says_what_clipping_adds(load, capsys):
    benchmark = load("update_step")
    benchmark.clipping("gpt2", load("_lists").make("gpt2"), "native", rounds=2)
    printed = capsys.readouterr().out
    assert len(rows(printed, "clip_norm(max_norm=1.0) + adamw")) == 1
    assert len(rows(printed, "clip_grad_norm_, then fused AdamW")) == 1
    assert "(target <= 0.6) inside the chain [native]" in printed


def test_targets_follow_the_bytes_that_a_method_moves(load):
    candidates = load("_candidates")
    adamw, sgdp = candidates.ours("adamw", "eager"), candidates.ours("sgdp", "eager")
    assert adamw.kind == "element"
    assert candidates.goal("gpt2", adamw, 8.0) == 1.0
    assert candidates.goal("gpt2", adamw, 4.0) == 20 / 28
    assert candidates.goal("small", adamw, 8.0) == 0.3
    assert math.isnan(candidates.goal("middle", adamw, 8.0))
    assert candidates.goal("gpt2", sgdp, 4.0) == 2.0
    assert math.isnan(candidates.goal("small", sgdp, 4.0))


def test_peers_that_are_installed_step_and_the_others_are_named(load, capsys):
    candidates, lists, peers = load("_candidates"), load("_lists"), load("_peers")
    present = peers.installed(peers.ELEMENT)
    printed = capsys.readouterr().out
    missing = {module for module in peers.VERSIONS if importlib.util.find_spec(module) is None}
    assert {p.module for p in present} == set(peers.VERSIONS) - missing
    assert bool(printed) == bool(missing)
    assert {word for word in printed.split() if "==" in word} == {peers.VERSIONS[module] for module in missing}
    for peer in present:
        if peer.module == "heavyball":
            continue  # compiles for most of a minute
        model = lists.make("small")
        before = [p.detach().clone() for p in model.parameters()]
        stepper = candidates.theirs(peer).build(model)
        stepper.step()
        assert all(p.grad is not None for p in model.parameters()), peer.name
        assert not any(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)), peer.name
        assert stepper.state_bytes() > 0, peer.name


def test_muon_step_times_ours_beside_pytorchs(load, capsys):
    benchmark = load("muon_step")
    benchmark.main(lists=("small", "gpt2"), executors=("native",), threads=1, rounds=2)
    printed = capsys.readouterr().out
    assert "== small: 2 matrices" in printed
    assert "== gpt2: 4 matrices" in printed
    assert len(rows(printed, "muon [native]")) == len(rows(printed, "torch Muon, and fused AdamW")) == 2


def test_muon_work_counts_the_products_of_the_iterations(load):
    benchmark, lists = load("muon_step"), load("_lists")
    # two 8x8 matrices, each 5 times: X X^T and its square (2 m^3 each), and times X (2 m^2 n), and X X^T is m x n x m
    assert benchmark.operations(lists.make("small"), "small") == 2 * 5 * (2 * 8**3 + 2 * 8**3 + 2 * 8**3)


def test_state_bytes_counts_what_is_kept(load, capsys):
    load("state_bytes").main(recipes="adamw; sgd; nonsense")
    printed = capsys.readouterr().out
    (adamw,), (sgd,) = rows(printed, "adamw"), rows(printed, "sgd")
    assert float(adamw[2]) == pytest.approx(8, abs=0.1)
    assert float(sgd[2]) == pytest.approx(4, abs=0.1)
    assert "left out: nonsense: recipe 'nonsense', column 1: there is no part named 'nonsense'" in printed


def test_projected_matrices_are_those_with_less_state_than_entries(load):
    benchmark = load("state_bytes")
    whole, low_rank, single = (torch.nn.Parameter(torch.zeros(4, 6)) for _ in range(3))
    optimizer = torch.optim.SGD([whole, low_rank, single])
    optimizer.state[whole] = {"step": torch.zeros(()), "m": torch.zeros(4, 6)}
    optimizer.state[low_rank] = {"step": torch.zeros(()), "m": torch.zeros(6), "norm": torch.zeros(())}
    optimizer.state[single] = {"scale": torch.zeros(())}
    (found,) = benchmark.projected(optimizer)
    assert found[0] is low_rank
    assert benchmark.bytes_of(found[1]) == 4 * 7


def job(**more):
    return json.dumps({"list": "small", "recipes": ["adamw"], "executors": ["native"], "threads": 1, **more})


def test_first_step_times_the_first_and_a_later_step(load, capsys):
    load("first_step").main(job=job(name="adamw [native]", graphs=False))
    found = json.loads(capsys.readouterr().out)
    assert found["first"] > 0
    assert found["second"] > 0


def test_first_step_starts_from_an_empty_cache_and_then_finds_it_full(load, capsys, monkeypatch):
    benchmark = load("first_step")
    seen = []

    def pretend(job, folder):
        seen.append((job["name"], folder, folder.exists()))
        return {"first": 0.5, "second": 0.25, "lost": 0.0}

    monkeypatch.setattr(benchmark, "in_new_process", pretend)
    benchmark.main(lists=("small",), recipes="adamw", executors=("native",), threads=1)
    (row,) = rows(capsys.readouterr().out, "adamw [native]")
    assert row[2:] == ["0.500", "<=", "1.5", "0.500", "<=", "0.1", "0.2500"]
    (_, _, ours, again) = seen
    assert ours == again
    assert ours[0] == "adamw [native]"
    assert seen[0][1] != ours[1]


def test_first_step_runs_in_a_process_of_its_own_with_its_own_cache(load, tmp_path):
    found = load("first_step").in_new_process(json.loads(job(name="adamw [native]", graphs=False)), tmp_path)
    assert found["second"] < found["first"] * 10
    assert list((tmp_path / "sooner").rglob("*.so"))


def test_graphs_are_counted_over_eight_learning_rates(load):
    benchmark = load("first_step")
    rates = []

    class Spy(torch.optim.SGD):
        def step(self):
            rates.append(self.param_groups[0]["lr"])

    candidates = load("_candidates")

    def build(model):
        optimizer = Spy(model.parameters(), lr=1.0)
        return candidates.Stepper(optimizer.step, [optimizer])

    assert benchmark.count_graphs(candidates.Candidate("spy", build), "small") == {"first": 0, "last": 0}
    assert len(set(rates)) == 8


def test_memory_peak_measures_the_first_step_in_processes_of_its_own(load, capsys):
    load("memory_peak").main(methods=("muon",), executors=("native",), threads=1, shape=(4, 256, 512), rounds=1)
    printed = capsys.readouterr().out
    assert printed.startswith("4 matrices 256 x 512, float32: copies of the weights (2 MiB), threads: 1\n")
    (ours,) = rows(printed, "muon [native]")
    assert ours[-2:] == ["<=", "1.1"]
    assert float(ours[4]) == pytest.approx(1, abs=0.5)  # one momentum is kept
    assert printed.count("torch muon") == 1


def test_awkward_groups_are_stepped_beside_torch(load, capsys):
    load("awkward_groups").main(executors=("native",), rounds=1, groups=(5, 4), mixture=(6, 2, 4))
    printed = capsys.readouterr().out
    assert len(rows(printed, "adamw [native]")) == 3
    assert len(rows(printed, "torch for-loop")) == 2
    assert len(rows(printed, "torch foreach")) == 1
    assert len(rows(printed, "torch fused")) == 3
    assert len(rows(printed, "adamw, checked")) == 1
    assert "gradients alone" not in printed
