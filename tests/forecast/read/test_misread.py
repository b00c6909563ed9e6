"""Files that were once read as something else, and what is said of runs, splits, axes and rows left out."""

import numpy as np
import pytest

from sooner.error import SoonerError
from sooner.forecast import forecast_curve, join
from sooner.forecast.nearest_runs import MOST, nearest_runs
from sooner.forecast.read import read
from sooner.forecast.table import Doubt, table

STEPS = np.arange(100, 1300, 100)
LOSSES = (2 + 4 * STEPS**-0.35).round(4)


def put(folder, name, line, head="", tail=""):
    """Write a line for each step and return the path."""
    path = folder / name
    text = "".join(
        line.format(s=s, t=t, v=t + 0.1, i=i, e=i + 1) for i, (s, t) in enumerate(zip(STEPS, LOSSES, strict=True))
    )
    path.write_text(head + text + tail)
    return path


def test_a_named_heading_wins_over_a_literal_one(tmp_path):
    path = put(tmp_path, "a.csv", "{s},{e},{t},99\n", "step,epoch,main_loss,loss\n")
    assert read([path])["loss"][0] == 99
    found = read([path], columns={"loss": "main_loss", "step": "epoch"})
    np.testing.assert_array_equal(found["loss"], LOSSES)
    np.testing.assert_array_equal(found["step"], np.arange(1, 13))
    assert found.axis == "epoch"
    log = put(tmp_path, "a.log", "epoch {e} step {s} loss {t} main loss 7\n")
    assert (read([log], columns={"loss": "main loss", "step": "epoch"})["loss"] == 7).all()


def test_epochs_keep_their_fractions_and_the_first_row(tmp_path):
    assert read([put(tmp_path, "a.csv", "{i},{t}\n", "epoch,loss\n")])["step"].tolist() == list(range(1, 13))
    found = read([put(tmp_path, "b.csv", "0.{s},{t}\n", "epoch,loss\n")])
    made = forecast_curve(found, draws=20)
    assert found["step"].max() < 1
    assert made.step[-1] == pytest.approx(2 * found["step"].max())


def test_epochs_beside_sizes_and_tokens_are_passes_over_the_data_and_no_axis(tmp_path):
    path = tmp_path / "passes.csv"
    path.write_text("params,tokens,epochs,loss\n1e8,2e9,1,3.1\n1e8,2e9,4,3.2\n3e8,2e9,1,2.9\n3e8,2e9,4,3\n")
    rows = read([path])
    assert "step" not in rows
    assert rows["epoch"].tolist() == [1, 4, 1, 4]
    assert len(rows.runs) == 4
    assert read([path], columns={"tokens": "params", "parameters": "tokens"})["epoch"].tolist() == [1, 4, 1, 4]
    path.write_text("params,epochs,loss\n1e8,1,3.1\n1e8,2,3\n1e8,3,2.9\n")
    assert read([path])["step"].tolist() == [1, 2, 3]


def test_a_few_evaluations_do_not_take_the_place_of_a_curve(tmp_path):
    tail = "step 1200: train loss 2.3, val loss 2.4\n"
    path = put(tmp_path, "a.log", "iter {s}: loss {t}, time 1ms\n", "step 0: train loss 10.9, val loss 10.95\n", tail)
    found = read([path])
    np.testing.assert_array_equal(found["loss"], LOSSES)
    assert any("2 validation losses are too few" in note for note in found.notes)
    assert read([path], split="validation")["loss"].tolist() == [10.95, 2.4]
    assert len(read([path], split="training")) == 12
    with pytest.raises(SoonerError, match="has no test loss; it has 'val loss'"):
        read([path], split="test")
    with pytest.raises(SoonerError, match="--split is 'vall'"):
        read([path], split="vall")


def test_rows_say_their_split_in_a_column(tmp_path):
    path = put(tmp_path, "a.csv", "train,{s},{t}\nval,{s},{v}\n", "split,step,loss\n")
    np.testing.assert_allclose(read([path])["loss"], LOSSES + 0.1)
    np.testing.assert_allclose(read([path], split="train")["loss"], LOSSES)


def test_a_run_that_diverged_says_so_first(tmp_path):
    lost = [put(tmp_path, "a.csv", "{s},{t}\n", "step,loss\n", "1300,nan\n1400,nan\n")]
    lost += [put(tmp_path, "b.log", "step {s}: val loss {t}\n", tail="iter 1250: loss nan, time 1ms\n")]
    for path, since in zip(lost, (1300, 1250), strict=True):
        found = read([path])
        assert isinstance(found.notes[0], Doubt)
        assert f"{path.stem} diverged: its loss is NaN or infinite from step {since} on" in found.notes[0]
    healthy = read([put(tmp_path, "c.csv", "{s},{t}\n", "step,loss\n50,nan\n60,inf\n", "1300,2.3\n")])
    assert len(healthy) == 13
    assert not any(isinstance(note, Doubt) for note in healthy.notes)


def test_single_zeros_are_left_out_and_a_tail_of_them_is_doubted(tmp_path):
    found = read([put(tmp_path, "a.csv", "{s},{t}\n", "step,loss\n50,0\n")])
    assert len(found) == 12
    assert any("1 rows of a.csv with a loss of 0" in note for note in found.notes)
    found = read([put(tmp_path, "b.csv", "{s},{t}\n", "step,loss\n", "1300,0.0\n1400,0.0\n")])
    assert any(isinstance(note, Doubt) and "the last ones are among them" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "line", "tail"),
    [
        ("a.log", "step {s}: val loss {t:.4f}\n", "step 1300: val loss 2"),
        ("a.csv", "{s},{t:.4f}\n", "1300,2"),
        ("a.csv", "{s},{t:.4f}\n", "1300"),
        ("a.jsonl", '{{"step": {s}, "loss": {t:.4f}}}\n', '{"step": 1300, "lo'),
    ],
)
def test_an_unfinished_last_line_is_left_out(tmp_path, name, line, tail):
    found = read([put(tmp_path, name, line, "step,loss\n" if name == "a.csv" else "", tail)])
    np.testing.assert_array_equal(found["step"], STEPS)
    assert any(f"the last line of {name} is unfinished" in note for note in found.notes)


def test_seeds_under_one_name_are_runs_and_other_kinds_are_refused(tmp_path):
    rows = "".join(
        f"{name},{seed},{n},5000,{loss + seed / 1000}\n"
        for name, n, loss in (("s", 1e6, 2), ("m", 4e6, 1.8), ("l", 2e7, 1.7))
        for seed in (1, 2, 3, 4)
    )
    path = tmp_path / "runs.csv"
    path.write_text("Name,seed,n_params,iter,loss\n" + rows)
    assert len(read([path]).runs) == 12
    tasks = tmp_path / "tasks.csv"
    tasks.write_text(
        "Task,tokens,loss\n"
        + "".join(f"{task},{k}e6,{4 / k + (task == 'qa')}\n" for task in ("mt", "qa") for k in range(1, 6))
    )
    with pytest.raises(SoonerError, match=r"other losses at the same tokens by 'Task' \(mt, qa\).*--where 'Task'='mt'"):
        read([tasks])
    assert len(read([tasks], where={"Task": "qa"})) == 5


def test_learning_rates_on_other_rows_are_interpolated(tmp_path):
    found = read([put(tmp_path, "a.log", "step={s} lr=[0.000{e}]\nsteps: {s} loss: {t}\n")])
    assert found["lr"][:2].tolist() == pytest.approx([1e-4, 2e-4])
    assert any("interpolated" in note for note in found.notes)
    assert "lr" not in read([put(tmp_path, "b.csv", "{s},,{t}\n", "step,lr,loss\n")])


@pytest.mark.parametrize(
    "line",
    [
        "Epoch [{e}/99], Step [400/400], Loss: {t}\n",
        "Epoch {e}: 100%|████| 400/400 [00:07<00:00, 9.0it/s, loss={t}]\n",
        "[{e},   400] loss: {t}\n",
    ],
)
def test_steps_that_begin_anew_in_every_epoch_go_on(tmp_path, line):
    found = read([put(tmp_path, "a.log", line)])
    np.testing.assert_array_equal(found["step"], 400 * np.arange(1, 13))


def test_what_stands_in_a_folder_beside_the_logs_is_passed_over(tmp_path):
    put(tmp_path, "train.log", "step {s} loss {t}\n")
    (tmp_path / "requirements.txt").write_text("torch==2.3\nnumpy\n")
    assert read([tmp_path]).runs == ["train"]


def test_axes_of_different_files_must_agree(tmp_path):
    two = [put(tmp_path, "a.log", "epoch {e} loss {t}\n"), put(tmp_path, "b.log", "step {s} loss {t}\n")]
    with pytest.raises(SoonerError, match="the files count epochs and steps"):
        read(two)
    assert read([put(tmp_path, "c.csv", "{s}e6,{t}\n", "tokens,loss\n")], curve=True).axis == "token"
    assert "step" not in read([tmp_path / "c.csv"])
    times = read([put(tmp_path, "d.csv", "17000{s:05d},{t}\n", "wall_time,loss\n")])
    np.testing.assert_array_equal(times["step"], STEPS)
    assert times.axis == "second"


def test_of_many_files_the_same_is_said_once(tmp_path):
    paths = [put(tmp_path, f"run{k}.log", "step {s} train loss {t} lr 1e-3\n") for k in range(9)]
    notes = read(paths).notes
    assert len(notes) == 2
    assert notes[0] == "run0.log: 12 rows of 1 run, training losses, steps 100 to 1200 (and 8 more likewise)"


def test_a_column_of_texts_named_like_a_split_is_no_loss(tmp_path):
    found = read([put(tmp_path, "a.csv", "train,{s},{t}\n", "val,step,train loss\n")])
    np.testing.assert_array_equal(found["loss"], LOSSES)


def test_sizes_have_suffixes_and_units(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("params (M),tokens,loss\n70,300B,2.8\n1400,1.5 trillion,2.2\n")
    found = read([path])
    assert found["parameters"].tolist() == [70e6, 1.4e9]
    assert found["tokens"].tolist() == [300e9, 1.5e12]


def test_mlflow_folders_are_runs(tmp_path):
    for name in ("a", "b"):
        metrics = tmp_path / "0" / name / "metrics" / "train"
        metrics.mkdir(parents=True)
        (metrics.parents[1] / "meta.yaml").write_text("")
        put(metrics, "loss", "17000000{s:05d} {t} {s}\n")
    found = read([tmp_path])
    assert found.runs == ["a", "b"]
    np.testing.assert_array_equal(found.only(["a"])["loss"], LOSSES)


def test_events_may_be_tensors_and_a_single_file(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(tmp_path))
    for step, loss in zip(STEPS.tolist(), LOSSES.tolist(), strict=True):
        writer.add_event(Event(wall_time=1.0, step=step, summary=scalar_pb("epoch_loss", loss)))
    writer.close()
    for path in (tmp_path, next(tmp_path.iterdir())):
        np.testing.assert_allclose(read([path])["loss"], LOSSES, rtol=1e-6)


def test_the_run_that_goes_on_is_named_and_fitted_alone_without_rates(tmp_path):
    two = [table(name, step=STEPS, loss=LOSSES + shift) for name, shift in (("a", 1.0), ("b", 0.0))]
    made = forecast_curve(join(two), draws=20)
    assert made.run == "b"
    assert made.final[0] < LOSSES[-1]
    assert any("b, one of 2 runs, goes on" in told for told in made.warnings)
    path = put(tmp_path, "runs.csv", "a,{s},{v}\nb,{s},{t}\n", "run,step,loss\n")
    assert read([path], run="a").runs == ["b", "a"]
    with pytest.raises(SoonerError, match="there is no run 'c'"):
        read([path], run="c")
    with pytest.raises(SoonerError, match="losses at fewer than 3 steps"):
        forecast_curve(table("a", step=[1, 2], loss=[3, 2]))


def test_of_many_runs_with_rates_the_nearest_are_fitted():
    many = join([table(f"r{k}", step=STEPS * (1 + k % 5), loss=LOSSES, lr=1e-3) for k in range(20)])
    few = nearest_runs(many)
    assert len(few.runs) == MOST
    assert set(few.runs) == {"r3", "r4", "r9", "r14", "r19"}
    assert few.runs[-1] == "r19"
    assert any("of 20 runs, the 5 nearest to r19" in note for note in few.notes)
    assert nearest_runs(few) is few
