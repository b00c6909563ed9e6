"""Sinks write what happened to the trackers, read back here with the trackers' own readers where they are installed."""

import contextlib
import json
import sqlite3
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

import sooner
from sooner.watch import NAMES, watching

SOURCES = Path(sooner.__file__).parent / "watch"
RUN = SimpleNamespace(key="muon(lr=0.02) | seed 30000 | 40 steps", payload={}, weight=40.0)
ROW = {"recipe": "muon(lr=0.02)", "tuned_recipe": "muon(lr=0.02)", "seeds": 3, "ratio": 0.8, "low": 0.6, "high": None}
SERIES = "muon lr 0.02/seed 30000/40 steps/loss"


def tell(watch):
    """Tell a training run and a piece of a race."""
    watch.start({"kind": "race", "name": "my task", "recipes": ["a", "b"], "seed": 7, "until": None})
    for step in (10, 20, 30, 40):
        watch.step(step, {"loss": 1 / step, "lr": 0.5, "gradient_norm": float("nan"), "seconds": 0.01})
    watch.evaluation(40, {"loss": 0.25})
    watch.evaluation(20, {"loss": 0.75}, RUN)  # steps of one run of a race go back behind those of another
    watch.evaluation(40, {"loss": 0.5}, RUN)
    watch.phase("racing", [RUN], 0.0)
    watch.progress(RUN, 0.5, {})
    watch.finished(RUN, {"values": [0.75, float("inf")]})
    watch.failed(RUN, "exit code 1")
    watch.standing([ROW])
    watch.verdict("muon(lr=0.02)", "faster", "it needs fewer steps")
    watch.end({"loss": 0.25, "diverged_at": None})


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Tells everything to the sink of a name, in a folder of its own; any failure of it is an error."""

    def to(text):
        monkeypatch.chdir(tmp_path)
        watch = watching(text)
        tell(watch)
        assert len(watch.watchers) == 1
        return tmp_path

    return to


def test_each_sink_is_at_most_60_lines():
    lines = {name: len((SOURCES / f"{name}.py").read_text(encoding="utf-8").splitlines()) for name in NAMES}
    assert {name: count for name, count in lines.items() if count > 60} == {}


def test_jsonl_has_a_line_per_event_that_any_reader_takes(told):
    lines = (told("jsonl:deep/log.jsonl") / "deep" / "log.jsonl").read_text(encoding="utf-8").splitlines()

    def refuse(constant):
        raise AssertionError(constant)

    events = [json.loads(line, parse_constant=refuse) for line in lines]
    names = ["start", *["step"] * 4, *["evaluation"] * 3, "phase", "cell", "failure", "standing", "verdict", "end"]
    assert [event["event"] for event in events] == names
    assert events[1]["gradient_norm"] == "nan"
    assert events[6]["cell"] == RUN.key
    assert events[9]["data"] == {"values": [0.75, "inf"]}
    assert events[11]["rows"] == [ROW]


def test_two_runs_share_a_jsonl_file(told):
    told("jsonl")
    lines = (told("jsonl") / "sooner.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["event"] for line in lines].count("start") == 2


def test_tensorboard_reads_what_was_written(told):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (told("tensorboard:logs") / "logs").iterdir()
    found = EventAccumulator(str(folder))
    found.Reload()
    assert {e.step: e.value for e in found.Scalars("train/loss")} == pytest.approx({s: 1 / s for s in (10, 20, 30, 40)})
    assert [(e.step, e.value) for e in found.Scalars(SERIES)] == [(20, 0.75), (40, 0.5)]
    assert [(e.step, round(e.value, 5)) for e in found.Scalars("standing/muon lr 0.02/ratio")] == [(3, 0.8)]
    assert "verdict/muon lr 0.02/text_summary" in found.Tags()["tensors"]


def test_a_training_run_and_tensorboard_runs_of_one_second_keep_apart(tmp_path):
    pytest.importorskip("tensorboard")
    for _ in range(2):
        sooner.train(sooner.workload("quadratic"), "sgd", steps=3, watch=f"tensorboard:{tmp_path}", log_every=1)
    assert len(list(tmp_path.iterdir())) == 2


def records(content):
    """The records of a file of wandb's: LevelDB's log format, blocks of 32 KiB, after a header of 7 bytes."""
    assert content[:4] == b":W&B"
    place, whole = 7, b""
    while place + 7 <= len(content):
        room = 32768 - place % 32768
        if room < 7:
            place += room
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        whole += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or the last piece of one
            yield whole
            whole = b""


def test_wandb_keeps_an_offline_run(told, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2 as proto

    monkeypatch.delenv("WANDB_MODE", raising=False)
    (file,) = told("wandb:tests").glob("wandb/offline-run-*/*.wandb")
    wandb.teardown()  # as the end of a process does; finish() itself does not wait for the file's last block
    rows, summary = [], {}
    for data in records(file.read_bytes()):
        record = proto.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item})
        if record.WhichOneof("record_type") == "summary":
            summary |= {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.summary.update}
    assert [(row["train/step"], row["train/lr"]) for row in rows if "train/loss" in row] == [
        (step, 0.5) for step in (10, 20, 30, 40)
    ]
    series = SERIES.replace(".", "_")
    step = series.replace("/loss", "/step")
    assert [(row[step], row[series]) for row in rows if series in row] == [(20, 0.75), (40, 0.5)]
    assert {name for row in rows for name in row if "lr 0/" in name} == set()
    assert summary["verdict/muon lr 0.02"] == "faster: it needs fewer steps"


@pytest.mark.filterwarnings("ignore")  # its database layer warns of itself
def test_mlflow_reads_what_was_written(told, monkeypatch, tmp_path):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    where = f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", where)
    told("mlflow:tests")
    client = MlflowClient(where)
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "7"
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, SERIES)] == [(20, 0.75), (40, 0.5)]
    assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 4
    assert run.data.tags["verdict/muon lr 0.02"] == "faster: it needs fewer steps"


def test_trackio_keeps_every_number(told, monkeypatch, tmp_path):
    pytest.importorskip("trackio")
    import trackio.sqlite_storage
    import trackio.utils

    for module in (trackio.utils, trackio.sqlite_storage):  # not the one in the home of who runs the tests
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "kept")
    told("trackio:tests")
    assert list(tmp_path.rglob("*.db"))
    with contextlib.closing(sqlite3.connect(next(tmp_path.rglob("*.db")))) as base:
        rows = base.execute("select step, metrics from metrics order by id").fetchall()
    found = [(step, json.loads(text)) for step, text in rows]
    assert [(step, row[SERIES]) for step, row in found if SERIES in row] == [(20, 0.75), (40, 0.5)]
    assert [step for step, row in found if "train/loss" in row] == [10, 20, 30, 40]
    assert any(row.get("verdict/muon lr 0.02") == "faster: it needs fewer steps" for _, row in found)


def test_no_sink_writes_anything_before_it_is_told_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watching("jsonl:a.jsonl")
    assert list(tmp_path.iterdir()) == []
