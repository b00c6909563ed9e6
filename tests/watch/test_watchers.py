"""Those who watch hear what happens, change no number, and can stop nothing."""

import math
import subprocess
import sys

import pytest
import torch

import sooner
from sooner.cluster import train_cluster
from sooner.error import SoonerError
from sooner.task import Task
from sooner.watch import Several, Sink, Watch, Within, watching
from sooner.watch.tensorboard import TensorBoard


class Heard(Watch):
    def __init__(self):
        self.events = []

    def start(self, about):
        self.events.append(("start", dict(about)))

    def step(self, step, numbers):
        self.events.append(("step", step, dict(numbers)))

    def evaluation(self, step, numbers, cell=None):
        self.events.append(("evaluation", step, dict(numbers), cell))

    def verdict(self, name, word, sentence):
        self.events.append(("verdict", name, word))

    def end(self, outcome):
        self.events.append(("end", dict(outcome)))

    def of(self, event):
        return [one[1:] for one in self.events if one[0] == event]


def model(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))


def batches(seed, split):
    x = torch.randn(40, 8, 6, generator=torch.Generator().manual_seed(seed))
    return [(one, one.sum(1, keepdim=True)) for one in x[: 2 if split == "eval" else 40]]


def loss(net, batch):
    return ((net(batch[0]) - batch[1]) ** 2).mean()


def tiny(**options):
    return Task(**{"model": model, "batches": batches, "loss": loss, "steps": 25, "evaluations": 3, **options})


@pytest.mark.parametrize("recipe", ["adamw + cosine", "clip_norm(max_norm=0.1) + muon + ema", "perpgrad + sgd"])
def test_watching_changes_no_number(recipe):
    plain = sooner.train(tiny(), recipe)
    watched = sooner.train(tiny(), recipe, watch=Heard(), log_every=3)
    assert torch.equal(plain.losses, watched.losses)
    assert plain.values == watched.values
    for ours, theirs in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_steps_tell_loss_rate_and_norm_of_the_step_itself():
    heard, task = Heard(), tiny()
    run = sooner.train(task, "sgd(lr=0.05) + cosine", seed=3, watch=heard, log_every=4, evaluate_at=[0, 10, 25])
    assert [step for step, _ in heard.of("step")] == [4, 8, 12, 16, 20, 24]
    norms, speeds = [], []
    net = task.model(sooner.task.derived_seed(3, "init")).train()
    training = sooner.Recipe("sgd(lr=0.05) + cosine").build(net, 25)
    data = task.batches(sooner.task.derived_seed(3, "order"), "train")
    for step in range(25):
        task.loss(net, data[step]).backward()
        norms.append(math.sqrt(sum(float(p.grad.double().square().sum()) for p in net.parameters())))
        speeds.append(training.optimizers[0].param_groups[0]["lr"])
        training.step()
        training.zero_grad()
    for step, numbers in heard.of("step"):
        assert numbers["loss"] == float(run.losses[step - 1])
        assert numbers["gradient_norm"] == pytest.approx(norms[step - 1], rel=1e-5)
        assert numbers["lr"] == pytest.approx(speeds[step - 1])
        assert numbers["seconds"] > 0
        assert set(numbers) == {"loss", "lr", "gradient_norm", "seconds"}
    assert [(step, numbers["loss"]) for step, numbers, _ in heard.of("evaluation")] == list(
        zip(run.steps, run.values, strict=True)
    )
    (about,), (outcome,) = heard.of("start"), heard.of("end")
    assert (about[0]["kind"], about[0]["seed"], about[0]["steps"], about[0]["resumed_at"]) == ("train", 3, 25, 0)
    assert (outcome[0]["steps"], outcome[0]["loss"], outcome[0]["diverged_at"]) == (25, run.values[-1], None)


def test_the_norm_is_that_before_clipping():
    loud, quiet = Heard(), Heard()
    sooner.train(tiny(), "sgd(lr=0)", steps=5, watch=loud, log_every=1)
    sooner.train(tiny(), "sgd(lr=0)", steps=5, watch=quiet, log_every=1, clip_norm=1e-3)
    assert [n["gradient_norm"] for _, n in loud.of("step")] == [n["gradient_norm"] for _, n in quiet.of("step")]


def test_two_optimizers_with_two_rates_are_told_apart():
    heard = Heard()
    sooner.train(tiny(), "muon(lr=0.01, on='0.weight') + adamw(lr=0.002, on='rest')", steps=2, watch=heard, log_every=1)
    told = heard.of("step")[0][1]
    assert [told[name] for name in told if name.startswith("lr")] == pytest.approx([0.01, 0.002])
    assert {"lr/muon", "lr/adamw"} <= set(told)


def test_a_diverging_and_a_failing_run_say_how_they_ended():
    heard = Heard()
    sooner.train(tiny(), "sgd(lr=1e30)", watch=heard)
    assert heard.of("end")[0][0]["diverged_at"] is not None
    calls = []

    def breaks(net, batch):
        calls.append(1)
        if len(calls) > 12:
            raise RuntimeError("no more")
        return loss(net, batch)

    heard = Heard()
    with pytest.raises(RuntimeError, match="no more"):
        sooner.train(tiny(loss=breaks), "sgd", watch=heard)
    assert heard.of("end") == [({"error": "RuntimeError: no more"},)]


def test_a_resumed_run_goes_on_telling_where_it_stopped(tmp_path):
    task, file = tiny(), tmp_path / "run.pt"

    class Stop(Heard):
        def evaluation(self, step, numbers, cell=None):
            super().evaluation(step, numbers)
            if step == 16:
                raise KeyboardInterrupt

    first, second, whole = Stop(), Heard(), Heard()
    common = {"checkpoint": file, "save_every": 5, "log_every": 5, "evaluate_at": [0, 16, 25]}
    with pytest.raises(KeyboardInterrupt):
        sooner.train(task, "adamw", watch=first, **common)
    sooner.train(task, "adamw", watch=second, **common)
    sooner.train(task, "adamw", watch=whole, **{**common, "checkpoint": None})
    assert second.of("start")[0][0]["resumed_at"] == 15
    without = [{k: v for k, v in n.items() if k != "seconds"} for _, n in first.of("step") + second.of("step")]
    assert without == [{k: v for k, v in n.items() if k != "seconds"} for _, n in whole.of("step")]


def test_a_simulated_cluster_tells_the_same():
    heard = Heard()
    run = train_cluster(tiny(), "sgd(lr=0.1) + local_sgd(every=5)", workers=3, watch=heard, log_every=10)
    assert heard.of("start")[0][0]["kind"] == "cluster"
    assert [(step, n["loss"], n["lr"]) for step, n in heard.of("step")] == [
        (10, float(run.losses[9]), 0.1),
        (20, float(run.losses[19]), 0.1),
    ]
    assert [n["consensus"] for _, n, _ in heard.of("evaluation")] == run.consensus
    assert heard.of("end")[0][0]["loss"] == run.values[-1]


def test_who_fails_is_told_of_once_and_left_out():
    class Fails(Heard):
        def step(self, step, numbers):
            self.events.append("tried")
            raise OSError("disk full")

    bad, good = Fails(), Heard()
    with pytest.warns(UserWarning, match=r"Fails failed at step \(OSError: disk full\)") as said:
        run = sooner.train(tiny(), "sgd", watch=[bad, good], log_every=2)
    assert len(said) == 1
    assert bad.events.count("tried") == 1
    assert len(good.of("step")) == 12
    assert run.steps[-1] == 25


def test_a_part_keeps_its_start_and_end_to_itself():
    heard = Heard()
    whole = watching([heard])
    part = Within(whole)
    part.start({"kind": "race"})
    part.verdict("muon", "faster", "it is")
    part.end({})
    assert heard.events == [("verdict", "muon", "faster")]
    assert part.watchers is whole.watchers
    assert watching(None).wants("standing") is False
    assert Several([watching([TensorBoard()])]).wants("standing") is True


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "trakio",
            "unknown sink 'trakio' (did you mean 'trackio'?); there are jsonl, tensorboard, trackio, wandb, mlflow",
        ),
        (7, "watch = 7 is no sooner.watch.Watch"),
        ([print], "is no sooner.watch.Watch"),
    ],
)
def test_what_is_no_watch_is_refused_before_training(given, said):
    with pytest.raises(SoonerError) as told:
        sooner.train(tiny(), "sgd", watch=given)
    assert said in str(told.value)


def test_a_tracker_that_is_not_installed_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SoonerError, match=r"wandb is not installed: pip install 'sooner\[wandb\]'"):
        sooner.train(tiny(), "sgd", watch="jsonl,wandb")


def test_importing_the_sinks_loads_no_tracker():
    program = (
        "import sys, sooner.watch; print({'torch', 'wandb', 'mlflow', 'trackio', 'tensorboard'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told == "set()\n"
    assert issubclass(Sink, Watch)


def test_a_run_says_in_one_line_what_came_of_it():
    run = sooner.train(tiny(), "sgd(lr=0.05)")
    assert repr(run).startswith(f"<Run: 25 steps, loss {run.values[0]:.4g} -> {run.values[-1]:.4g}, 41 parameters, ")
    assert "\n" not in repr(run)
    lost = sooner.train(tiny(), "sgd(lr=1e30)")
    assert f"diverged at step {lost.diverged_at}" in repr(lost)
    assert repr(train_cluster(tiny(), "sgd(lr=0.05)", workers=2)).startswith("<ClusterRun: 25 steps, loss ")
