"""Reading measurements: what is understood, what is noted, and what is refused with row and column."""

import gzip
import json
import sys

import numpy as np
import pytest

from sooner.error import SoonerError
from sooner.forecast.read import read, thin
from sooner.race.journal import Journal

CURVE = "step,train_loss,val_loss,learning_rate\n" + "".join(
    f"{s},{9 / s:.5f},{10 / s:.5f},{1e-3:g}\n" for s in range(1, 41)
)
RUNS = "Model Size,Tokens,Final Loss\n1e8,2e9,3.1\n2e8,4e9,2.9\n4e8,8e9,2.7\n"


def put(folder, name, text):
    path = folder / name
    path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
    return path


def test_columns_are_mapped_and_the_mapping_is_noted(tmp_path):
    found = read([put(tmp_path, "runs.csv", RUNS)])
    assert found["parameters"].tolist() == [1e8, 2e8, 4e8]
    assert found["loss"][0] == 3.1
    assert "loss is read from 'Final Loss', parameters from 'Model Size', tokens from 'Tokens'" in found.notes
    assert len(found.runs) == 3


def test_a_curve_is_one_run_and_validation_is_preferred(tmp_path):
    found = read([put(tmp_path, "a.csv", CURVE)])
    assert found.runs == ["a"]
    assert found["loss"][0] == 10
    assert any("loss is read from 'val_loss' (not 'train_loss'" in note for note in found.notes)
    assert read([tmp_path / "a.csv"], columns={"loss": "train_loss"})["loss"][0] == 9


@pytest.mark.parametrize("change", ["tsv", "semicolon", "gz", "bom", "jsonl"])
def test_other_tables_read_the_same(tmp_path, change):
    plain = read([put(tmp_path, "a.csv", CURVE)])
    if change == "tsv":
        path = put(tmp_path, "a.tsv", CURVE.replace(",", "\t"))
    elif change == "semicolon":
        path = put(tmp_path, "b.csv", CURVE.replace(",", ";").replace(".", ","))
    elif change == "gz":
        path = put(tmp_path, "a.csv.gz", gzip.compress(CURVE.encode(), mtime=0))
    elif change == "bom":
        path = put(tmp_path, "c.csv", b"\xef\xbb\xbf" + CURVE.encode())
    else:
        names, *rows = (line.split(",") for line in CURVE.split())
        lines = (json.dumps(dict(zip(names, map(float, row), strict=True))) for row in rows)
        path = put(tmp_path, "a.jsonl", "\n".join(lines))
    found = read([path])
    for name in ("step", "loss", "lr"):
        np.testing.assert_array_equal(found[name], plain[name])


NANOGPT = "".join(
    f"step {s}: train loss {9 / (s + 1):.4f}, val loss {10 / (s + 1):.4f}\niter {s}: loss {9 / (s + 1):.4f}, time 1ms\n"
    for s in range(0, 500, 50)
)
MODDED = "".join(
    f"step:{s}/1000 val_loss:{10 / (s + 1):.4f} train_time:{s}ms\nstep:{s + 1}/1000 train_loss:3.2 train_time:1ms\n"
    for s in range(0, 1000, 100)
)
LLM_C = "".join(
    f"s:{s} tel:{10 / (s + 1):.4f}\ns:{s} trl:{9 / (s + 1):.4f} lr:0.0006 norm:1.2\n" for s in range(0, 900, 100)
)


@pytest.mark.parametrize("text", [NANOGPT, MODDED, LLM_C], ids=["nanogpt", "modded", "llm.c"])
def test_text_logs_give_their_validation_curve(tmp_path, text):
    found = read([put(tmp_path, "train.log", "Using device: cuda\n" + text + "done\n")])
    assert len(found) in (9, 10)
    assert found["loss"][0] == 10
    assert (np.diff(found["step"]) > 0).all()


def test_training_losses_where_there_are_no_others_with_their_learning_rates(tmp_path):
    text = "".join(f"iter {s}: loss {9 / (s + 1):.4f}, lr 3e-4, time 1ms\n" for s in range(0, 50, 5))
    found = read([put(tmp_path, "train.txt", text)])
    assert found["lr"].tolist() == [3e-4] * 10
    assert "train.txt: 10 rows of 1 run, steps 0 to 45" in found.notes


def test_a_schedule_may_be_said(tmp_path):
    found = read([put(tmp_path, "train.log", NANOGPT)], lr="linear:peak=1e-3,total=900")
    assert found["lr"][0] == pytest.approx(1e-3)
    assert found["lr"][-1] == pytest.approx(0.5e-3)
    assert any("linear:peak=0.001" in note for note in found.notes)


def test_files_and_folders_are_joined_and_runs_kept_apart(tmp_path):
    for name in ("a", "b"):
        put(tmp_path, f"{name}.csv", CURVE)
    assert read([tmp_path]).runs == ["a", "b"]
    other = tmp_path / "other"
    other.mkdir()
    two = [put(other, f"{name}.csv", RUNS) for name in ("x", "y")]
    assert len(read(two).runs) == 6


def test_restarts_keep_the_later_rows_and_unsorted_steps_are_sorted(tmp_path):
    lines = CURVE.split()
    again = "\n".join([*lines[:21], "15,0,0.5,1e-3", *lines[21:]])
    found = read([put(tmp_path, "a.csv", again)])
    assert found["loss"][found["step"] == 15].tolist() == [0.5]
    assert any("after a restart" in note for note in found.notes)
    backwards = "\n".join([lines[0], *reversed(lines[1:])])
    found = read([put(tmp_path, "b.csv", backwards)])
    assert (np.diff(found["step"]) > 0).all()
    assert any("sorted" in note for note in found.notes)


MANY = "study,trial,kind,step,loss\n" + "".join(
    f"{study},{trial},{kind},{step},{3 / step + (kind == 'val')}\n"
    for study in "ab"
    for trial in "12"
    for step in (1, 2, 3)
    for kind in ("train", "val")
)


def test_runs_of_one_file_are_told_apart_and_picked(tmp_path):
    path = put(tmp_path, "many.csv", MANY)
    found = read([path], columns={"run": "study+trial"}, where={"kind": "val"})
    assert found.runs == ["a/1", "a/2", "b/1", "b/2"]
    assert found["loss"].tolist() == [4.0, 2.5, 2.0] * 4
    assert len(read([path], where={"kind": "val", "study": "a", "trial": "2"})) == 3
    with pytest.raises(SoonerError, match="--where HEADING=TEXT"):
        read([path], columns={"run": "study"})
    with pytest.raises(SoonerError, match="no row with kind 'valid'"):
        read([path], where={"kind": "valid"})
    with pytest.raises(SoonerError, match=r"no heading 'kin' \(did you mean 'kind'"):
        read([path], where={"kin": "val"})
    with pytest.raises(SoonerError, match="no heading 'trail'"):
        read([path], columns={"run": "study+trail"})


def test_rows_of_final_losses_are_runs_of_their_own_and_kinds_of_models_name_none(tmp_path):
    text = "name,model,seed,N,loss\n" + "".join(f"n{k},{'ab'[k % 2]},1,{k + 1}e8,3\n" for k in range(6))
    assert read([put(tmp_path, "a.csv", text)]).runs == [f"n{k}" for k in range(6)]
    assert read([put(tmp_path, "b.csv", text.replace("name,", "note,"))]).runs == [f"row {k}" for k in range(2, 8)]
    assert read([tmp_path / "b.csv"], columns={"run": "model"}).runs == ["a", "b"]


def test_rows_without_a_step_are_left_out_and_counted(tmp_path):
    found = read([put(tmp_path, "a.csv", "step,loss\n1,3\n,9\n2,2\n")])
    assert found["step"].tolist() == [1, 2]
    assert any("1 rows of a.csv without a step" in note for note in found.notes)


def test_dense_curves_are_averaged(tmp_path):
    random = np.random.default_rng(0)
    losses = 2 + 0.1 * random.standard_normal(5000)
    text = "step,loss\n" + "".join(f"{s},{v}\n" for s, v in enumerate(losses, start=1))
    found = read([put(tmp_path, "a.csv", text)])
    assert len(found) == 1000
    assert found["step"][0] == 3  # of steps 1 to 5
    assert found["loss"][0] == pytest.approx(losses[:5].mean())
    assert np.std(found["loss"]) < 0.06
    assert any("averaged over neighbours to 1000" in note for note in found.notes)


def test_rows_without_a_loss_are_left_out_and_counted(tmp_path):
    found = read([put(tmp_path, "a.csv", "step,loss\n1,3\n2,\n3,nan\n4,2\n")])
    assert found["step"].tolist() == [1, 4]
    assert any("2 rows of a.csv without a loss" in note for note in found.notes)


def test_long_logs_are_thinned_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(thin, "MOST", 100)
    text = "step,loss\n" + "".join(f"{s},{3 + 1 / s}\n" for s in range(1, 1001))
    found = read([put(tmp_path, "a.csv", text)])
    assert 50 <= len(found) <= 101
    assert any("1,000 rows; about every 16th was kept" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "step,loss\n1,3\n2,x\n", r"row 3 of a\.csv has 'x' in the column 'loss'"),
        ("a.csv", "step,loss,loss\n1,3,3\n", "heading 'loss' twice"),
        ("a.csv", "step,loss\n1,3\n2,-1\n", r"row 3 of a\.csv has the loss -1"),
        ("a.csv", "step,loss\n1,0\n2,inf\n", "no loss that is positive and finite, in any row"),
        ("a.csv", "step,loss\n1,nan\n", "no loss in any row"),
        ("a.csv", "step,loss\n", "headings and no rows"),
        ("a.csv", "step,loss\n1,2,3\n", "row 2 of a.csv has 3 cells and the heading 2"),
        ("a.csv", "", "is empty"),
        ("a.csv", "<html>\n", "does not begin with headings"),
        ("a.csv", '{"step": 1}\n', "a.csv is JSON without a table"),
        ("a.csv", b"PK\x03\x04\x00\x00", "is not text"),
        ("a.csv", b"step,loss\n1,\xff\n", "has 'ÿ' in the column 'loss'"),
        ("a.csv", bytes(range(1, 32)) * 9, "is not text and can't be read as a table"),
        ("a.csv.gz", "step,loss\n1,2\n", "not compressed with gzip"),
        *(
            (f"a.{kind}.gz", gzip.compress(CURVE.encode(), mtime=0)[:60], "is cut off")
            for kind in ("csv", "jsonl", "log")
        ),
        ("a.csv.gz", gzip.compress(CURVE.encode(), mtime=0)[:-8] + bytes(8), "damaged as a gzip file"),
        ("a.csv.gz", gzip.compress(bytes(range(256))), "can't be read as"),
        ("a.csv", b"PAR1" + bytes(40) + b"PAR1", r"is not text but parquet.*rename it so that it ends in \.parquet"),
        ("a.parquet", CURVE, "can't be read as parquet, whatever its ending says"),
        ("a.parquet", b"", "is empty"),
        ("a.jsonl", "{}\n{}\n", "objects without fields"),
        ("a.jsonl", '{"step": 1, "loss": 2}\n{"step": 2, "loss": "low"}\n', "row 2 of a.jsonl has 'low' in the column"),
        ("a.csv", "1,3.2,0,5\n2,3.1,0,5\n", "no headings: it begins with the numbers 1, 3.2, 0, 5"),
        ("a.csv", "# note\nstep,loss\n\n1,3\n2,x\n", r"row 5 of a\.csv has 'x'"),
        ("a.csv", 'step,loss\n1,"3,2,1"\n', "has '3,2,1' in the column"),
        (
            "a.csv",
            "parameters,loss\n1e8,3\n-1e8,2\n",
            r"row 3 of a\.csv has parameters -1e\+08, which can't be negative",
        ),
        ("a.csv", "step,loss\n-1,3\n", "has step -1, which"),
        (
            "a.csv",
            "step,loss\n" + "".join(f"{s},3\n{s - 95},3\n" for s in range(100, 900, 10)),
            "between 2 rising steps",
        ),
        ("a.jsonl", '{"step": 1}\nnot json\n', "line 2 of a.jsonl is no JSON object"),
        ("a.log", "hello\nworld\n", "no line with a step and a loss"),
        ("a.xlsx", b"PK\x03\x04\x00\x00", "a zip archive or a spreadsheet.*save the sheet as csv"),
        ("a.csv", "step,loss\n" + "1,3\n1,2\n2,3\n2,2\n3,3\n3,2\n4,3\n4,2\n", "two runs were interleaved"),
        ("a.csv", "step,loss\n,3\n,2\n", "no step in any row"),
        ("a.csv", "step,loss\n" + "1,3\n2,2\n3,1\n" * 4, "begins anew 3 times"),
    ],
)
def test_bad_files_are_refused_with_row_and_column(tmp_path, name, text, message):
    with pytest.raises(SoonerError, match=message):
        read([put(tmp_path, name, text)])


def test_commas_in_numbers_are_what_they_must_be(tmp_path):
    quoted = "step,loss\n" + "".join(f'"{s},000","3,{s}5"\n' for s in range(1, 9))
    assert read([put(tmp_path, "a.csv", quoted)])["loss"][:2].tolist() == [3.15, 3.25]
    grouped = "step,loss\n" + "".join(f'"{s},000",3.{s}5\n' for s in range(1, 9))
    assert read([put(tmp_path, "b.csv", grouped)])["step"][:2].tolist() == [1000, 2000]
    tabs = "step\tloss\n" + "".join(f"{s}\t3,{s}50\n" for s in range(1, 9))
    assert read([put(tmp_path, "c.tsv", tabs)])["loss"][:2].tolist() == [3.15, 3.25]
    german = "step;loss\n" + "".join(f"1.00{s},0;3,{s}5\n" for s in range(1, 9))
    assert read([put(tmp_path, "d.csv", german)])["step"][:2].tolist() == [1001, 1002]
    mixed = "step;loss\n" + "".join(f"{s},000;3.{s}5\n" for s in range(1, 9))
    assert read([put(tmp_path, "e.csv", mixed)])["step"][:2].tolist() == [1000, 2000]


def test_other_line_ends_quotes_and_letters(tmp_path):
    text = CURVE.replace("step", '"Étape"').replace("\n", "\r\n")
    found = read([put(tmp_path, "läuf 1.csv", text.encode())], columns={"step": "Étape"})
    assert found["loss"][0] == 10
    assert found.runs == ["läuf 1"]


def test_an_export_of_weights_and_biases_is_a_run_per_column(tmp_path):
    names = [f"{run} - {metric}" for run in ("calm-sea-4", "brisk-sun - 3") for metric in ("val/loss", "val/loss__MIN")]
    rows = "".join(f'"{s}","{3 / s}","1","{4 / s if s < 5 else ""}","1"\n' for s in range(1, 9))
    path = put(tmp_path, "wandb.csv", ",".join(f'"{name}"' for name in ("Step", *names)) + "\n" + rows)
    found = read([path])
    assert found.runs == ["calm-sea-4", "brisk-sun - 3"]
    assert found.only(["calm-sea-4"])["loss"].tolist() == [3 / s for s in range(1, 9)]
    assert found.only(["brisk-sun - 3"])["loss"].tolist() == [4 / s for s in range(1, 5)]
    assert any("read as 2 runs" in note for note in found.notes)
    assert len(read([path], columns={"loss": "brisk-sun - 3 - val/loss"})) == 4


def test_runs_whose_rows_alternate_survive_thinning_and_two_in_one_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(thin, "MOST", 100)
    rows = "".join(f"{run},{s},{3 + 1 / s}\n" for s in range(1, 3001) for run in "abcd")
    path = put(tmp_path, "many.csv", "run,step,loss\n" + rows)
    found = read([path])
    counts = [int((found.run == run).sum()) for run in "abcd"]
    assert min(counts) > 0.2 * sum(counts)
    bare = put(tmp_path, "bare.csv", "step,loss\n" + "".join(row.split(",", 1)[1] + "\n" for row in rows.split()))
    with pytest.raises(SoonerError, match="9,000 times, as if two runs were interleaved"):
        read([bare])
    log = put(tmp_path, "bare.log", "".join(f"iter {s}: loss {3 + 1 / s}\n" for s in range(1, 3001) for _ in "ab"))
    with pytest.raises(SoonerError, match="as if two runs were interleaved"):
        read([log])


def test_rare_validation_losses_survive_thinning(tmp_path, monkeypatch):
    monkeypatch.setattr(thin, "MOST", 100)
    rows = "".join(f"{s},{3 + 1 / s},{3 + 1 / s if s % 100 == 0 else ''}\n" for s in range(1, 9001))
    found = read([put(tmp_path, "a.csv", "step,train_loss,val_loss\n" + rows)])
    assert found["step"].tolist() == list(range(100, 9001, 100))


def test_shuffled_steps_are_sorted(tmp_path):
    steps = np.random.default_rng(0).permutation(np.arange(1, 200))
    found = read([put(tmp_path, "a.csv", "step,loss\n" + "".join(f"{s},{3 + 1 / s}\n" for s in steps))])
    assert (np.diff(found["step"]) == 1).all()
    assert any("sorted" in note for note in found.notes)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(SoonerError, match="there is no file"):
        read([tmp_path / "none.csv"])
    with pytest.raises(SoonerError, match="no file of measurements"):
        read([tmp_path])
    with pytest.raises(SoonerError, match="at least one file"):
        read([])
    path = put(tmp_path, "a.csv", CURVE)
    with pytest.raises(SoonerError, match=r"no heading 'val_los' \(did you mean 'val_loss'\?\)"):
        read([path], columns={"loss": "val_los"})
    with pytest.raises(SoonerError, match=r"no law reads \(did you mean 'loss'\?\)"):
        read([path], columns={"los": "val_loss"})
    with pytest.raises(SoonerError, match="a schedule needs steps"):
        read([put(tmp_path, "r.csv", RUNS)], lr="constant:peak=1e-3")


def test_mixed_units_and_files_without_a_shared_column_are_refused(tmp_path):
    steps = put(tmp_path, "a.csv", "step,loss\n1,2\n2,1\n")
    tokens = put(tmp_path, "b.csv", "tokens,loss\n1e6,2\n2e6,1\n")
    with pytest.raises(SoonerError, match=r"a\.csv counts step and b\.csv tokens"):
        read([steps, tokens])
    with pytest.raises(SoonerError, match="share no column"):
        read([put(tmp_path, "c.csv", "foo\n1\n"), put(tmp_path, "d.csv", "bar\n1\n")])


def test_the_curves_that_come_with_sooner(tmp_path):
    found = read(["sample:charlm_cosine", "sample:charlm_constant", "sample:charlm_wsd"])
    assert found.runs == ["charlm_cosine", "charlm_constant", "charlm_wsd"]
    assert len(found) == 300
    assert found["lr"].max() == pytest.approx(3e-3)
    with pytest.raises(SoonerError, match=r"no sample 'charlm_cosin' \(did you mean 'charlm_cosine'\?\)"):
        read(["sample:charlm_cosin"])


def test_a_race_is_read_from_its_journal(tmp_path):
    race = {"steps": [0, 10, 20], "values": [4.0, 3.0, float("nan")], "diverged_at": None}
    with Journal.open(tmp_path / "race", {"task": {"metric": "loss"}}, {}) as journal:
        journal.append("cell", "adamw | seed 1", race)
        journal.append("cell", "sgd | seed 1", {**race, "values": [4.0, 3.5, 3.4]})
    found = read([tmp_path / "race"])
    assert found.runs == ["adamw | seed 1", "sgd | seed 1"]
    assert found["loss"].tolist() == [4.0, 3.0, 4.0, 3.5, 3.4]
    with pytest.raises(SoonerError, match="leave --column and --where out"):
        read([tmp_path / "race"], columns={"loss": "x"})
    with Journal.open(tmp_path / "empty", {"task": {}}, {}):
        pass
    with pytest.raises(SoonerError, match="no finished run yet"):
        read([tmp_path / "empty"])


def test_parquet_is_a_table_like_others(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"Model Size": [1e8, 2e8], "tokens": [2e9, 4e9], "loss": [3.1, 2.9]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "runs.parquet")
    assert read([tmp_path / "runs.parquet"])["parameters"].tolist() == [1e8, 2e8]
    whole = (tmp_path / "runs.parquet").read_bytes()
    with pytest.raises(SoonerError, match="can't be read as parquet"):
        read([put(tmp_path, "cut.parquet", whole[: len(whole) // 2])])
    with pytest.raises(SoonerError, match=r"runs\.csv is not text but parquet.*rename it"):
        read([put(tmp_path, "runs.csv", whole)])


def test_a_tensorboard_folder_is_a_run_per_folder(tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    for name in ("a", "b"):
        with SummaryWriter(tmp_path / name) as writer:
            for step in range(1, 6):
                writer.add_scalar("train/loss", 3 / step, step)
                writer.add_scalar("train/lr", 1e-3, step)
    found = read([tmp_path])
    assert found.runs == ["a", "b"]
    assert found["loss"][:2].tolist() == pytest.approx([3, 1.5])
    assert found["lr"][0] == pytest.approx(1e-3)
    with pytest.raises(SoonerError, match=r"no scalar 'train/los' \(did you mean 'train/loss'"):
        read([tmp_path], columns={"loss": "train/los"})
    with pytest.raises(SoonerError, match="leave --where out"):
        read([tmp_path], where={"kind": "val"})
    with SummaryWriter(tmp_path / "c" / "d") as writer:
        writer.add_scalar("train/lr", 1.0, 1)
        writer.add_scalar("reward", 1.0, 1)
    with pytest.raises(SoonerError, match="its scalars are reward, train/lr"):
        read([tmp_path / "c"])


@pytest.mark.parametrize(("library", "name"), [("pyarrow", "a.parquet"), ("tensorboard", "events")])
def test_a_library_that_is_not_installed_is_named(tmp_path, monkeypatch, library, name):
    for module in [one for one in sys.modules if one.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    path = put(tmp_path, name, "PAR1") if library == "pyarrow" else tmp_path
    put(tmp_path, "events.out.tfevents.1", "x")
    with pytest.raises(SoonerError, match=f"need {library}; install it"):
        read([path])
