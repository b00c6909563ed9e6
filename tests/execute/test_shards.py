"""Sharded parameters take the same steps as whole ones: two processes, FSDP2 on gloo, every kind of rule."""

from pathlib import Path

RECIPES = (
    "sgd(weight_decay=0.1)",  # element rules
    "adamw",
    "normalized_gd",  # sums over the model
    "clip_norm(max_norm=0.1) + adamw",
    "adagrad_norm",
    "prodigy(d0=0.01, weight_decay=0.1)",  # sums over the model, which the state is kept with
    "sgd_sai",  # sums over parameters, with memory
    "adan(weight_decay=0.1)",  # an element rule with the gradient of the step before
    "mars(weight_decay=0.1)",  # sums over parameters and the gradient of the step before
    "schedule_free_adamw(weight_decay=0.1)",  # an average of its own to evaluate
    "adamp(weight_decay=0.1)",  # sums over rows
    "muon + hyperball",  # around the step
    "muon",  # whole matrices
)


def run_with_two_processes(ranks, script, *arguments):
    both = ranks([Path(__file__).with_name(script), *arguments])
    both.succeed()
    return both.printed(0)


def test_matrices_of_every_form_equal_unsharded_ones(ranks):
    printed = run_with_two_processes(ranks, "matrices_run.py")
    for where in ("eager", "native", "experts", "zero"):
        assert f"{where} muon match_rms_adamw" in printed


def test_sharded_training_equals_unsharded_training(ranks):
    printed = run_with_two_processes(ranks, "sharded_run.py", *RECIPES)
    for executor in ("eager", "native"):
        for recipe in RECIPES:
            assert f"{executor} {recipe}" in printed


def test_state_in_few_bits_is_that_of_unsharded_parameters(ranks, tmp_path):
    printed = run_with_two_processes(ranks, "packed_run.py", str(tmp_path))
    assert "8 bits" in printed
    assert "4 bits" in printed
