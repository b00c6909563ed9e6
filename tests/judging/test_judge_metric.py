"""Reading a metric from what programs print."""

import math

import pytest

from sooner.error import SoonerError
from sooner.judging.metric import read


def course(tmp_path, text, metric, name="run.log"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return list(read(path, metric).values)


@pytest.mark.parametrize(
    "line",
    [
        "step 250: train loss 4.1, val loss 3.25",
        "step:250/1000 val_loss:3.25 train_time:12ms",
        "val_loss=3.25",
        "val-loss = 3.25",
        "{'val_loss': 3.25, 'epoch': 1.0}",
        '{"step": 250, "val_loss": 3.25}',
        "\x1b[32mINFO\x1b[0m VAL_LOSS: \x1b[1m3.25\x1b[0m",
        "val_loss tensor(3.25, device='cuda:0')",
        " 10%|# | 1/10 [00:01<00:09, val_loss=4]\r 20%|##| 2/10 [00:02<00:08, val_loss=3.25]",
        "val_loss 325e-2",
    ],
)
def test_ways_to_write_it(tmp_path, line):
    assert course(tmp_path, f"hello\n{line}\nbye\n", "val_loss")[-1] == 3.25


def test_a_loss_is_not_the_loss_of_something_else(tmp_path):
    text = "step 1: train loss 4.5, val loss 3.5\nstep 1: loss 2.5\nmy_loss 1.5\nval/loss 0.5\n"
    assert course(tmp_path, text, "loss") == [2.5]
    assert course(tmp_path, text, "train loss") == [4.5]
    assert course(tmp_path, text, "val/loss") == [0.5]
    assert course(tmp_path, text, "my_loss") == [1.5]


@pytest.mark.parametrize("word", ["nan", "NaN", "inf", "-inf"])
@pytest.mark.parametrize("line", ["val loss {}", "val_loss: {}", '{{"val_loss": "{}"}}'])
def test_a_run_that_ends_with_nan_has_no_better_value(tmp_path, line, word):
    assert not math.isfinite(course(tmp_path, "val_loss 3.0\n" + line.format(word) + "\n", "val_loss")[-1])


def test_json_writes_nan_as_a_word(tmp_path):
    assert math.isnan(course(tmp_path, '{"val_loss": 3.0}\n{"val_loss": NaN}\n', "val_loss")[-1])


def test_steps_without_the_metric_are_no_values(tmp_path):
    assert course(tmp_path, '{"a": 1, "val_loss": null}\n{"val_loss": 2.0}\n{"a": 1}\n', "val_loss", "x.jsonl") == [2.0]
    assert course(tmp_path, "step,acc\n1,0.5\n2,\n3,0.75\n4,\n", "acc", "metrics.csv") == [0.5, 0.75]
    assert course(tmp_path, "step\tacc\n1\t0.5\n2\tnan\n", "acc", "metrics.tsv")[0] == 0.5


def test_no_metric_shows_the_last_lines(tmp_path):
    with pytest.raises(SoonerError, match=r"run.log has no value of 'acc'.*--metric.*loss 3 | done"):
        course(tmp_path, "a\nb\nloss 3\ndone\n", "acc")
    with pytest.raises(SoonerError, match="nothing"):
        course(tmp_path, "", "acc")
    with pytest.raises(SoonerError, match="--log names a file that each run writes"):
        read(tmp_path / "none.log", "acc")


def test_digests_tell_courses_apart(tmp_path):
    for name, text in (("a.log", "x 1\nx 2\n"), ("b.log", "x 1\nx 2\n"), ("c.log", "x 3\nx 2\n")):
        course(tmp_path, text, "x", name)
    a, b, c = (read(tmp_path / f"{name}.log", "x") for name in "abc")
    assert a.digest == b.digest != c.digest
    assert (a.last, len(a.values)) == (2.0, 2)
