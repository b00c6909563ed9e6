"""`sooner forecast merge` as it is typed: two projects in different units, the table read back, refusals."""

import math
import re

import numpy as np
import pytest

from sooner.forecast import read

STEPS = np.arange(100.0, 2001, 100)
NATS = 2 + 8 * STEPS**-0.4


def test_the_table_is_read_back_and_the_page_written(tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    for name, heading, scale in (("mine", "loss", 1.0), ("theirs", "quality", math.log(2))):
        rows = [f"{s:g},{v!r}" for s, v in zip(STEPS, (NATS / scale).tolist(), strict=True)]
        (tmp_path / f"{name}.csv").write_text(f"step,{heading}\n" + "\n".join(rows))
    words = ["forecast", "merge", "mine.csv", "theirs.csv", "--column", "theirs:loss=quality"]
    told = cli(*words, "--say", "theirs:loss=bits", "--table", "all.csv", "--out", "page.html")
    assert told.code == 0, told.err
    assert "40 rows of 2 runs of 2 projects, in nats per token, along step" in told.out
    back = read([tmp_path / "all.csv"])
    assert back.runs == ["mine", "theirs"]
    np.testing.assert_allclose(back["loss"], np.tile(NATS, 2), rtol=1e-12)
    assert "theirs" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a.csv", "a.csv"], "is named twice"),
        (["a.csv", "b.csv", "--say", "loss=bits"], "is not PROJECT:FACT=VALUE"),
        (["a.csv", "b.csv", "--say", "a:los=bits"], r"says 'los' \(did you mean 'loss'\?\)"),
        (["a.csv", "b.csv", "--say", "c:loss=bits"], "names 'c'"),
        (["a.csv", "b.csv", "--say", "a:batch=many"], "'many' is no number"),
        (["a.csv", "b.csv", "--table", "none/here.csv"], "can't be written"),
    ],
)
def test_the_command_refuses_in_one_sentence(cli, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("step,loss\n" + "\n".join(f"{s},{3 - s / 10}" for s in range(1, 5)))
    told = cli("forecast", "merge", *words)
    assert told.code == 2
    assert re.search(sentence, told.err)
    assert "Traceback" not in told.err
