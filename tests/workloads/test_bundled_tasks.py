"""What holds for every bundled task: a pure function of its seed, with batches in any order and a sane beginning."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sooner import workloads
from sooner.error import SoonerError
from sooner.task import check

NAMES = workloads.names()
RANDOM_BATCHES = [
    "cartpole",
    "charlm",
    "digits",
    "digits_federated",
    "digits_flow",
    "draft_text",
    "finetune",
    "grammar",
    "languages",
    "quadratic",
    "shapes",
    "sums",
    "zipf",
]
SCALABLE = ["charlm", "digits", "finetune", "grammar", "shapes", "zipf"]

# the loss of a model that knows nothing, and how far the untrained one may lie from it
UNINFORMED = {
    "languages": (math.log(24), 0.1),
    "cartpole": (0.0, 0.1),  # advantages have mean 0
    "charlm": (math.log(97), 0.4),
    "digits": (math.log(10), 0.4),
    "digits_federated": (math.log(10), 0.4),
    "digits_flow": (1.72, 0.15),  # variance of noise less image
    "draft_text": (0.5, 0.45),  # here the target has taken a single step
    "finetune": (7.2, 0.5),  # here the network has taken two steps
    "grammar": (math.log(1944), 0.4),
    "modular": (math.log(59), 0.2),
    "quadratic": (sum(1 / i for i in range(1, 101)) / 2, 2.5),
    "separable": (math.log(2), 8.0),
    "shapes": (math.log(10), 0.4),
    "sums": (0.0, 0.5),  # a policy loss: right answers less wrong ones
    "zipf": (math.log(4096), 0.1),
}


def flat(model):
    return torch.cat([tensor.detach().double().flatten() for tensor in model.state_dict().values()])


def same(one, other):
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_tasks_are_listed_in_order():
    assert NAMES == [
        "cartpole",
        "charlm",
        "digits",
        "digits_federated",
        "digits_flow",
        "draft_text",
        "finetune",
        "grammar",
        "languages",
        "modular",
        "quadratic",
        "separable",
        "shapes",
        "sums",
        "zipf",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_summary_is_the_first_sentence_of_the_docstring(name):
    sentence = workloads.summary(name)
    assert sentence.endswith(".")
    assert " ".join(workloads.load(name).__doc__.split()).startswith(sentence + " ")
    assert ". " not in sentence


def test_listing_and_describing_do_not_import_torch():
    code = (
        "import sys\n"
        "from sooner import workloads\n"
        "[workloads.summary(name) for name in workloads.names()]\n"
        "print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


@pytest.mark.parametrize("ask", [workloads.load, workloads.summary, workloads.find])
def test_an_unknown_name_is_answered_with_the_nearest_and_the_list(ask):
    with pytest.raises(
        SoonerError, match=r"'zip' \(did you mean 'zipf'\?\).*cartpole, charlm, digits, digits_federated, "
    ):
        ask("zip")


def test_helper_modules_are_not_tasks():
    with pytest.raises(SoonerError, match="_seeded"):
        workloads.load("_seeded")


def test_find_reads_a_file_of_the_user(tmp_path):
    path = tmp_path / "my_task.py"
    path.write_text(
        '"""Mine."""\nsteps = 7\ndef model(seed): ...\ndef batches(seed, split): ...\ndef loss(model, batch): ...\n'
    )
    assert workloads.find(str(path)).steps == 7
    assert workloads.find("zipf").name == "zipf"


@pytest.mark.parametrize("name", NAMES)
def test_every_task_passes_the_check_of_a_race(name):
    found = check(workloads.find(name))
    assert found["fingerprint"].startswith("sha256:")
    assert "sha256" in found["data"]
    assert found["parameters"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_weights_depend_on_the_seed_alone_and_leave_global_generators_alone(name):
    task = workloads.load(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
        first = task.model(11)
        weights = flat(first)
        value = task.loss(first, task.batches(5, "train")[0])
        task.loss(first, task.batches(5, "eval")[0])
        assert torch.equal(torch.get_rng_state(), state)
        assert np.array_equal(np.random.get_state()[1], numpy_state)
        torch.manual_seed(2)
        second = task.model(11)
        assert torch.equal(weights, flat(second))
        assert torch.equal(task.loss(second, task.batches(5, "train")[0]), value)
        assert not torch.equal(weights, flat(task.model(12)))


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=20)
@given(order=st.permutations([0, 1, 2, 25, 300]))
def test_batches_can_be_asked_for_in_any_order(name, order):
    task = workloads.load(name)
    expected = {index: task.batches(3, "train")[index] for index in sorted(order)}
    batches = task.batches(3, "train")
    assert all(same(batches[index], expected[index]) for index in order)


@pytest.mark.parametrize("name", RANDOM_BATCHES)
def test_batches_differ_between_steps_and_seeds(name):
    task = workloads.load(name)
    batches = task.batches(3, "train")
    assert not same(batches[0], batches[1])
    assert not same(batches[0], task.batches(4, "train")[0])


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_batches_have_a_length_and_an_end(name):
    evaluation = workloads.load(name).batches(0, "eval")
    assert len(list(evaluation)) == len(evaluation) >= 1
    with pytest.raises(IndexError):
        evaluation[len(evaluation)]


@pytest.mark.parametrize("name", NAMES)
def test_batches_before_the_first_do_not_exist(name):
    with pytest.raises(IndexError):
        workloads.load(name).batches(0, "train")[-1]


@pytest.mark.parametrize("name", NAMES)
def test_training_batches_do_not_pretend_to_have_a_length(name):
    with pytest.raises(TypeError):
        len(workloads.load(name).batches(0, "train"))


@pytest.mark.parametrize("name", NAMES)
def test_untrained_loss_is_that_of_knowing_nothing(name):
    task = workloads.load(name)
    expected, tolerance = UNINFORMED[name]
    with torch.no_grad():
        for split in ("train", "eval"):
            value = float(task.loss(task.model(0), task.batches(0, split)[0]))
            assert math.isfinite(value)
            assert abs(value - expected) < tolerance


@pytest.mark.parametrize("name", NAMES)
def test_model_and_batches_can_be_sent_to_another_process(name):
    task = workloads.load(name)
    model, train, evaluation = pickle.loads(
        pickle.dumps((task.model(1), task.batches(1, "train"), task.batches(1, "eval")))
    )
    assert same(train[9], task.batches(1, "train")[9])
    assert same(evaluation[0], task.batches(1, "eval")[0])
    assert torch.equal(flat(model), flat(task.model(1)))


@pytest.mark.parametrize("name", SCALABLE)
def test_a_network_of_a_size_has_about_as_many_times_the_parameters(name):
    task = workloads.load(name)
    one = task.model(5)
    assert torch.equal(flat(task.model(5, size=1)), flat(one))
    for size in (0.5, 2, 4, 8):
        model = task.model(5, size=size)
        count = sum(parameter.numel() for parameter in model.parameters())
        assert 0.8 * size < count / sum(parameter.numel() for parameter in one.parameters()) < 1.25 * size
        assert torch.equal(flat(model), flat(task.model(5, size=size)))
        with torch.no_grad():
            assert torch.isfinite(task.loss(model, task.batches(0, "train")[0]))


@pytest.mark.parametrize("size", [0, -1, math.inf, math.nan])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(SoonerError, match="is no size of a network"):
        workloads.load("shapes").model(0, size=size)


def test_fingerprints_are_the_same_in_a_new_process(fresh):
    code = "from sooner import workloads\nfor name in workloads.names(): print(workloads.load(name).fingerprint())"
    assert fresh(code).splitlines() == [workloads.load(name).fingerprint() for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_the_output_layer_of_a_network_is_called_head(name):
    names = dict(workloads.load(name).model(0).named_modules())
    assert ("head" in names) == (name != "quadratic")


@pytest.mark.parametrize("name", NAMES)
def test_the_target_is_among_the_numbers_that_the_task_reports(name):
    task = workloads.load(name)
    with torch.no_grad():
        found = task.metrics(task.model(0), task.batches(0, "eval")[0]) if hasattr(task, "metrics") else {}
    assert getattr(task, "metric", "loss") in {"loss", *found}
    assert all(value.ndim == 0 and torch.isfinite(value) for value in found.values())
