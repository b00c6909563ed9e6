"""What is read as step and metric out of a program's lines, and what is not."""

import math

import pytest

from sooner.command.reading import Scanner
from sooner.command.template import read
from sooner.error import SoonerError
from sooner.space import Log


def points(text, metric="val_loss", kind="", **options):
    scanner = Scanner(metric, kind, **options)
    for at in range(0, len(text), 7):  # it comes in pieces
        scanner.feed(text[at : at + 7], 0.0)
    scanner.feed("", 0.0, end=True)
    return scanner.points


@pytest.mark.parametrize(
    ("text", "metric", "found"),
    [
        ("step 250: train loss 2.5, val loss 3.25\niter 251: loss 2.1\n", "val_loss", {250: 3.25}),
        ("step 250: train loss 2.5, val loss 3.25\niter 251: loss 2.1\n", "train_loss", {250: 2.5}),
        ("step 250: train loss 2.5, val loss 3.25\niter 251: loss 2.1\n", "loss", {251: 2.1}),
        ("step:125/5100 val_loss:3.4046 train_time:1ms", "val_loss", {125: 3.4046}),
        ("Iteration [7/9] best val_loss 1.0 validation loss = nan", "val_loss", {7: math.nan}),
        ('INFO {"step": 3, "eval_loss": 1.5e-3}', "val_loss", {3: 0.0015}),
        ("{'global_step': 4, 'val/loss': inf}", "val_loss", {}),
        ('{"step": 5, "val/accuracy": 0}\n', "val_accuracy", {5: 0.0}),
        ("step 3 val_loss: 2.0\r\nstep 4 val_loss: 1.0", "val_loss", {3: 2.0, 4: 1.0}),
        ("elapsed 12.5 s 300 tok/s step 1,000 val_loss 2.5", "val_loss", {1000: 2.5}),
        ("step 1 perplexity 12%", "val_loss", {}),
        ("val_loss 1.0 without a number", "val_loss", {}),
    ],
)
def test_lines(text, metric, found):
    assert points(text, metric) == pytest.approx(found, nan_ok=True)


def test_a_table_with_gaps():
    text = "epoch,step,train_loss,val_loss\n0,0,2.5,\n0,0,,3.0\n0,9,,2.0\n"
    assert points(text, kind=".csv") == {0: 3.0, 9: 2.0}


def test_two_values_of_one_step_are_refused():
    with pytest.raises(SoonerError, match=r"val_loss of step 3 comes twice, 1\.0 and 2\.0; .*one process"):
        points("step 3 val_loss 1.0\nstep 3 val_loss 2.0\n")
    with pytest.raises(SoonerError, match="val_loss of step 2 comes after step 3"):
        points("step 3 val_loss 1.0\nstep 2 val_loss 2.0\n")


def test_a_file_that_a_resumed_program_writes_on_goes_back():
    text = "step 1 val_loss 3\nstep 2 val_loss 2\nstep 3 val_loss 9\nstep 2 val_loss 2\nstep 3 val_loss 1\n"
    assert points(text, rewinds=True) == {1: 3.0, 2: 2.0, 3: 1.0}


def test_a_command_has_ranges_and_first_values():
    made = read("wide: python t.py --a {a:log(1e-4, 1e-1)} --b {b=0.9:uniform(0, 1)} --m '{{x}}' --seed {seed}")
    assert made.space["a"] == Log(1e-4, 1e-1)
    assert made.default == {"a": 1e-3, "b": 0.9}
    tuned = made.with_settings({"a": 0.01, "b": 0.5})
    assert str(tuned) == "wide (a=0.01, b=0.5)"
    assert tuned.filled(seed=3) == "python t.py --a 0.01 --b 0.5 --m '{x}' --seed 3"
    assert not tuned.space


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("python t.py --seed {sed}", r"\{sed\} is nothing that the race fills in.*seed"),
        ("python t.py {lr:log(1, )}", "is no range"),
        ("python t.py {lr:log(2, 1)}", "low < high"),
        ("python t.py {seed:log(1, 2)}", "is filled in by the race"),
        ("python t.py {lr:log(1, 2)} {lr:log(1, 2)}", "a range twice"),
        (" ", "empty"),
    ],
)
def test_commands_that_say_nothing_clear_are_refused(text, words):
    with pytest.raises(SoonerError, match=words):
        read(text).default
