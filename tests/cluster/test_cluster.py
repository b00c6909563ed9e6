"""The simulated cluster equals the ordinary loop with one worker, real processes with two, and itself after a stop."""

import copy
from dataclasses import replace
from pathlib import Path

import heterogeneous_task
import pytest
import torch
from stopping import Stopped, stop_after
from torch import nn

import sooner
from sooner.cluster import train_cluster
from sooner.error import SoonerError
from sooner.foundation.lanes import Lanes
from sooner.task import from_module, worker_batches

TASK = from_module(heterogeneous_task, "heterogeneous_task")
HERE = Path(__file__).parent
PROCESSES = [
    "sgd",
    "adamw + dense + cosine",
    "adamw + fp16",
    "sgd + top_k(ratio=0.1) + ef",
    "muon + int8 + ef21",
    "adamw + local_sgd(every=3)",
    "sgd + local_sgd(every=4) + proximal + fp16",
    "clip_norm + sgd + diloco(every=3)",
    "adamw + noloco(every=3)",
    "sgd + gossip(every=3, mixing_steps=2)",
    "sgd + snoo(every=3)",
    "sgd + co2(every=2)",
    "sgd + streaming_diloco(every=4, fragments=2, delay=1)",
    "sgd(momentum=0.0) + afa_cs(every=3)",
    "sgd + fedhyper(every=3) + fedhyper_clients",
    "sgd + silent",
]


def weights(run):
    return torch.cat([p.detach().reshape(-1) for p in run.model.parameters()])


@pytest.mark.parametrize(
    "recipe",
    [
        "sgd",
        "adamw + cosine",
        "muon + linear",
        "clip_norm(max_norm=0.1) + sgd",
        "adamw + ema",
        "sgd(on='*.bias') + adamw(on='rest')",
        "torch.optim.RMSprop",
    ],
)
@pytest.mark.parametrize("outer", ["", " + local_sgd(every=3)"])
def test_one_worker_trains_as_the_loop_does(recipe, outer):
    expected = sooner.train(TASK, recipe, 2, 9)
    found = train_cluster(TASK, recipe + outer, 2, 9, 1)
    torch.testing.assert_close(weights(found), weights(expected), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.losses, expected.losses, rtol=1e-6, atol=1e-7)
    assert found.values == pytest.approx(expected.values, rel=1e-9)
    assert found.steps == expected.steps
    assert found.state_bytes == pytest.approx(expected.state_bytes, abs=64)  # counters of steps
    assert [m.keys() for m in found.metrics] == [m.keys() for m in expected.metrics]
    assert found.traffic.wire_bytes == 0


@pytest.fixture(scope="module")
def processes(ranks, tmp_path_factory):
    """What two gloo processes make of the recipes."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "recipes").write_text("\n".join(PROCESSES))
    ranks([HERE / "cluster_ranks.py", folder]).succeed()
    return dict(zip(PROCESSES, torch.load(folder / "found.pt"), strict=True))


@pytest.mark.parametrize("recipe", PROCESSES)
def test_two_workers_train_as_two_processes_do(processes, recipe):
    expected, values, losses, sent = processes[recipe]
    run = train_cluster(TASK, recipe, 3, 9, 2, evaluate_at=[0, 5, 9])
    torch.testing.assert_close(weights(run), expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(run.losses, losses, rtol=1e-6, atol=1e-6)
    assert run.values == pytest.approx(values, rel=1e-9)
    assert run.average == run.values
    assert run.traffic.wire_bytes == pytest.approx(sent, abs=64)  # processes also agree on which gradients there are


def test_two_runs_are_the_same_bit_for_bit():
    recipe = "adamw + random_k(ratio=0.2) + ef + local_sgd(every=3) + sampled(share=0.5)"
    one, two = (train_cluster(replace(TASK, model=with_dropout), recipe, 4, 6, 4) for _ in range(2))
    assert str(noted(one)) == str(noted(two))


def test_an_average_of_gradients_is_the_gradient_of_all_batches():
    found = train_cluster(TASK, "sgd(lr=0.2, momentum=0.5)", 1, 5, 4)
    model = heterogeneous_task.model(sooner.task.derived_seed(1, "init"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5)
    data = [worker_batches(TASK, 1, i, 4) for i in range(4)]
    for step in range(5):
        optimizer.zero_grad()
        sum(heterogeneous_task.loss(model, one[step]) / 4 for one in data).backward()
        optimizer.step()
    expected = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    torch.testing.assert_close(weights(found), expected, rtol=1e-10, atol=1e-12)


RESUMED = [
    "adamw + top_k(ratio=0.1) + ef + sam",
    "adamw + fp16 + diloco(every=3)",
    "muon + local_sgd(every=3) + linear",
    "adamw + ema + local_sgd(every=3) + sampled(share=0.5) + linear",
    "sgd(momentum=0.0) + local_sgd(every=3) + fedspeed + sampled(share=0.5)",
    "sgd(momentum=0.0) + afa_cs(every=3) + anarchic(share=0.5, oldest=3)",
    "adamw + afa_cd(every=3) + anarchic(share=0.5, oldest=0)",
    "sgd + gossip(every=3, graph='random') + sam",
    "sgd(momentum=0.0) + local_sgd(every=3) + curriculum(share=0.5, clients='easy')",
    "sgd + co2(every=2)",
    "sgd + snoo(every=3)",
    "sgd + fedhyper(every=3, mode='GM') + fedhyper_clients(mode='CL') + sampled(share=0.5)",
    "sgd + snoo(every=3) + sampled(share=0.5)",
]


# processor time, and bytes, which after loading hold some counters of steps more than once
UNNOTED = ("model", "cpu_seconds", "traffic", "state_bytes")


def noted(run):
    kept = {name: value for name, value in vars(run).items() if name not in UNNOTED}
    return {**kept, "losses": run.losses.tolist(), "weights": weights(run).tolist(), "sent": run.traffic.wire_bytes}


@pytest.mark.parametrize(("recipe", "stop"), [*((recipe, 4) for recipe in RESUMED), (RESUMED[4], 6), (RESUMED[5], 3)])
def test_a_stopped_run_goes_on_bit_for_bit(recipe, stop, tmp_path):
    # with dropout, so that the global random state counts
    task = replace(TASK, model=with_dropout)
    due = [0, 2, 5, 8]
    whole = train_cluster(task, recipe, 4, 8, 4, evaluate_at=due)

    file = tmp_path / "c.pt"
    with pytest.raises(Stopped):
        train_cluster(
            task, recipe, 4, 8, 4, evaluate_at=due, checkpoint=file, save_every=stop, progress=stop_after(stop)
        )
    torch.manual_seed(987)
    resumed = train_cluster(task, recipe, 4, 8, 4, evaluate_at=due, checkpoint=file)
    found, expected = noted(resumed), noted(whole)
    for name in expected:
        assert str(found[name]) == str(expected[name]), name  # as text, for NaN is not equal to itself
    # asked for once more, a run that is over answers the same
    assert torch.equal(weights(train_cluster(task, recipe, 4, 8, 4, evaluate_at=due, checkpoint=file)), weights(whole))
    with pytest.raises(SoonerError, match=r"belongs to another run .*workers 4 there, 5 here"):
        train_cluster(task, recipe, 4, 8, 5, evaluate_at=due, checkpoint=file)


def with_dropout(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Dropout(0.3), nn.Linear(5, 3)).double()


def test_one_optimizer_for_all_and_one_each_give_the_same(monkeypatch):
    recipe = "adamw + cosine + local_sgd(every=3)"
    together = train_cluster(TASK, recipe, 2, 8, 4, evaluate_at=[0, 5, 8])
    monkeypatch.setattr("sooner.cluster.movers.elementwise", lambda optimizer: False)
    apart = train_cluster(TASK, recipe, 2, 8, 4, evaluate_at=[0, 5, 8])
    torch.testing.assert_close(weights(together), weights(apart), rtol=1e-10, atol=1e-12)
    for name in ("values", "replicas", "consensus"):
        assert getattr(together, name) == pytest.approx(getattr(apart, name), rel=1e-9, abs=1e-15)
    assert together.state_bytes == pytest.approx(apart.state_bytes, abs=64)


def test_rules_over_the_whole_model_see_one_worker_at_a_time():
    """Clipping by the norm of all workers would be another method."""
    recipe = "clip_norm(max_norm=0.05) + sgd(lr=1.0, momentum=0.0) + local_sgd(every=1)"
    found = weights(train_cluster(TASK, recipe, 1, 1, 3, evaluate_at=[]))
    start = heterogeneous_task.model(sooner.task.derived_seed(1, "init"))
    ends = []
    for i in range(3):
        lanes = Lanes(start, 1, heterogeneous_task.loss)
        _, g = lanes(lanes.weights, [worker_batches(TASK, 1, i, 3)[0]])
        ends.append(lanes.start - g[0] * min(1.0, 0.05 / float(g.norm())))
    mean = torch.stack(ends).mean(0)
    model = heterogeneous_task.model(0)
    lanes.write(mean, model)
    torch.testing.assert_close(
        found, torch.cat([p.detach().reshape(-1) for p in model.parameters()]), rtol=1e-6, atol=1e-9
    )


def test_a_run_tells_what_it_cost():
    run = train_cluster(
        TASK, "sgd(momentum=0.0) + local_sgd(every=5) + sam + sampled(share=0.5)", 1, 11, 4, evaluate_at=[3, 10, 11]
    )
    assert (run.rounds, run.worker_steps, run.gradients, run.seconds) == (2, 22, 2, 10.0)
    assert run.traffic.payload_bytes == 2 * 38 * 8
    assert run.consensus[0] > 0
    assert run.consensus[1] == 0
    assert run.drift[1] > 0
    assert run.consensus[2] > 0
    assert run.replicas[1] == run.average[1]
    assert run.errors[1] == 0
    for name in ("average", "replicas", "consensus", "drift", "errors"):
        assert len(getattr(run, name)) == len(run.steps) == 3


def test_an_uneven_number_of_steps_moves_only_who_has_some_left():
    run = train_cluster(TASK, "adamw + local_sgd(every=6) + anarchic(share=1.0, oldest=0)", 5, 12, 4)
    assert run.diverged_at is None
    assert torch.isfinite(run.losses).all()
    assert run.worker_steps < 48


def test_divergence_of_one_worker_is_noticed():
    def loss(model, batch):
        return heterogeneous_task.loss(model, batch) * (float("nan") if batch[0].shape[0] == 3 else 1.0)

    def shards(worker, workers, seed):
        shard = heterogeneous_task.shards(worker, workers, seed)
        shard.batch_size = 3 if worker == 1 else 4
        return shard

    for recipe in ("sgd", "sgd + local_sgd(every=2)"):
        run = train_cluster(replace(TASK, loss=loss, shards=shards), recipe, 1, 6, 3, evaluate_at=[0, 4])
        assert run.diverged_at == 1


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("sgd + dense + fp16", "both own the codec"),
        ("deepzero + sgd", "needs a closure"),
        ("torch.optim.LBFGS", "needs a closure"),
        ("dense", "no part that moves the weights"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(recipe, message):
    with pytest.raises(SoonerError, match=message):
        train_cluster(TASK, recipe, 0, 4, 2)


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("workers", 0), ("workers", 2.5), ("save_every", -1)])
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(SoonerError, match=rf"train_cluster: {name}={value}"):
        train_cluster(TASK, "sgd", 0, **{"steps": 4, name: value})


def test_a_window_longer_than_the_run_is_said(caplog):
    run = train_cluster(TASK, "sgd + local_sgd(every=50)", 0, 4, 2)
    assert "every=50 is more than the 4 steps of the run" in caplog.text
    assert run.rounds == 0
    assert run.average[-1] != run.replicas[-1]


def test_batch_normalization_is_refused():
    task = replace(TASK, model=lambda seed: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).double())
    with pytest.raises(SoonerError, match="GroupNorm"):
        train_cluster(task, "sgd", 0, 2, 2)


class Mixture(nn.Module):
    """Two experts, between which every example is divided."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.double()

    def forward(self, x):
        return sum(expert(x) for expert in self.experts)


def mixture(seed):
    torch.manual_seed(seed)
    return Mixture()


def test_workers_do_not_train_what_others_own():
    task = replace(TASK, model=mixture)
    start = mixture(sooner.task.derived_seed(1, "init"))
    run = train_cluster(task, "sgd + spes(every=4, merge=0.0, experts='experts.{}.*')", 1, 4, 2, evaluate_at=[])
    for worker in range(2):
        model = copy.deepcopy(start)
        optimizer = torch.optim.SGD(model.experts[worker].parameters(), lr=0.1, momentum=0.9)
        for step in range(4):
            optimizer.zero_grad()
            heterogeneous_task.loss(model, worker_batches(TASK, 1, worker, 2)[step]).backward()
            optimizer.step()
        found, expected = run.model.experts[worker], model.experts[worker]
        torch.testing.assert_close(found.weight, expected.weight, rtol=1e-9, atol=1e-12)
