"""The forecast of a gain: known truths come back, what can't be told says what to buy, bad tables get one sentence."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sooner.forecast
from sooner.cli import main
from sooner.error import SoonerError
from sooner.forecast.families import Arm, Family, measure
from sooner.forecast.gain import gain
from sooner.forecast.read.arms import Arms, read_arms
from sooner.forecast.trend import Cells, trend

STEPS = np.linspace(50, 1000, 20)


def losses(law, sizes=4, seeds=4, noise=0.002, length=1000.0, scale=1.0, offset=0.0, random=None):
    """Yield (size, arm, seed, losses): the contender runs exp(law(x)) times as fast, x the log of the size."""
    random = np.random.default_rng(0) if random is None else random
    for k in range(sizes):
        x = k * np.log(2)
        for seed in range(seeds):
            common = noise * random.standard_normal()
            for arm, factor in (("old", 1.0), ("new", np.exp(law(x)))):
                curve = 1 + np.exp(-0.3 * x) + (STEPS * factor / length) ** -0.4
                shake = 1 + common + noise * random.standard_normal() + noise / 2 * random.standard_normal(len(STEPS))
                yield 1e4 * 2**k, arm, str(seed), scale * curve * shake + offset


def arms(law, **options):
    made = Arms()
    for size, arm, seed, rows in losses(law, **options):
        made.add(size, 1000.0, arm, seed, zip(STEPS.tolist(), rows.tolist(), strict=True))
    return made


def only(law, times=10.0, **options):
    (made,) = gain(arms(law, **options), size_times=times, draws=60)
    return made


def test_a_constant_gain_survives():
    made = only(lambda x: 0.5)
    assert made.verdict == "survives"
    assert made.target.size == 10 * 8e4
    assert made.target.low < np.exp(0.5) < made.target.high
    assert all(one.value == pytest.approx(np.exp(0.5), rel=0.06) for one in made.measured)
    assert made.direction == "no trend told"
    assert "the gain of new over old survives: 1." in made.sentence
    measured, predicted = made.left_out
    assert predicted.low < measured.value < predicted.high
    assert made.vanishing.share < 0.2
    assert made.buy is None


def test_a_gain_that_vanishes_is_told_with_its_place():
    made = only(lambda x: 0.6 - 0.3 * x, times=30, sizes=5, noise=0.0005)
    assert made.direction == "shrinks"
    assert made.verdict == "vanishes"
    place = 1e4 * np.exp((0.6 - np.log(1.02)) / 0.3)  # where a speed-up of 1.02 is left
    assert made.vanishing.low == pytest.approx(place, rel=0.05)
    assert made.vanishing.high == pytest.approx(place, rel=0.05)
    assert made.vanishing.low < made.vanishing.size < made.vanishing.high
    assert made.vanishing.share == 1
    assert "; it vanishes at 6" in made.sentence or "; it vanishes at 7" in made.sentence


def test_a_growing_gain_grows_and_none_is_none():
    made = only(lambda x: 0.2 + 0.2 * x)
    assert (made.verdict, made.direction) == ("survives", "grows")
    assert only(lambda x: -0.4).verdict == "none"


def test_what_two_noisy_sizes_cannot_tell_says_what_to_buy():
    made = only(lambda x: 0.2, sizes=2, noise=0.02, times=20)
    assert made.verdict == "open"
    assert "can't be told from these sizes" in made.sentence
    assert "; buy " in made.sentence
    assert made.buy.cost > 0
    assert made.left_out is None
    assert any("two sizes fix no trend" in text for text in made.warnings)


def test_one_seed_is_taken_with_a_doubt_and_different_seeds_with_another():
    assert any("one seed of an arm" in text for text in only(lambda x: 0.5, seeds=1).warnings)
    mixed = Arms()
    for size, arm, seed, rows in losses(lambda x: 0.5):
        mixed.add(size, 1000.0, arm, f"{arm} {seed}", zip(STEPS.tolist(), rows.tolist(), strict=True))
    (made,) = gain(mixed, draws=60)
    assert any("ran on different seeds" in text for text in made.warnings)
    assert made.target.low < np.exp(0.5) < made.target.high


def test_a_run_that_diverges_is_left_out_and_told():
    made = arms(lambda x: 0.5)
    points = made.curves[1e4, 1000.0]["new"]["2"]
    for step in [s for s in points if s > 300]:
        del points[step]
    (found,) = gain(made, draws=60)
    assert any("1 of 4 runs of new at size 10000 do not reach step 1000" in note for note in found.notes)
    assert found.measured[0].seeds == 3


@given(st.floats(0.01, 100), st.floats(-50, 50))
@settings(max_examples=5, deadline=None)
def test_units_and_offsets_of_the_loss_change_nothing(scale, offset):
    """A speed-up compares steps at equal loss, whatever the loss is counted in."""
    plain, moved = (only(lambda x: 0.3, sizes=3, **more) for more in ({}, {"scale": scale, "offset": offset}))
    assert moved.target.value == pytest.approx(plain.target.value, rel=0.02)
    assert moved.target.low == pytest.approx(plain.target.low, rel=0.04)


@given(st.floats(-0.8, 0.8), st.integers(0, 100))
@settings(max_examples=5, deadline=None)
def test_arms_that_change_places_have_the_inverse_gain(level, seed):
    made = arms(lambda x: level, sizes=3, random=np.random.default_rng(seed))
    (one,) = gain(made, draws=60, baseline="old")
    (two,) = gain(made, draws=60, baseline="new")
    for first, second in zip(one.measured, two.measured, strict=True):
        assert first.value * second.value == pytest.approx(1, rel=0.1)


def test_lengths_that_were_raced_tell_how_the_gain_goes_on_with_the_length(tmp_path):
    """log gain = 0.3 + 0.2 log(length / 1000), in races of three lengths: a table with a column for the length."""
    random = np.random.default_rng(3)
    lines = ["arm,size,length,steps,loss,seed"]
    for length in (500.0, 1000.0, 2000.0):
        law = 0.3 + 0.2 * np.log(length / 1000)
        for size, arm, seed, values in losses(lambda x, law=law: law, sizes=2, length=1000.0, random=random):
            for step, value in zip(STEPS * length / 1000, values, strict=True):
                lines.append(f"{arm},{size:g},{length:g},{step:g},{value:.6f},{seed}")
    (tmp_path / "runs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (made,) = gain([tmp_path / "runs.csv"], size_times=1, length_times=2, draws=60)
    assert sorted({one.length for one in made.measured}) == [500, 1000, 2000]
    assert made.target.length == 4000
    assert made.target.low < np.exp(0.3 + 0.2 * np.log(4)) < made.target.high
    assert not any("within their runs" in text for text in made.warnings)


def test_exact_curves_give_the_exact_gain():
    def arm(factor):
        return Arm(STEPS, np.tile(1 + (STEPS * factor / 1000) ** -0.5, (2, 1)), ("0", "1"))

    cells = measure([Family(1e4, 1000.0, arm(1.0), arm(1.7))], draws=20)
    assert np.exp(cells.gain) == pytest.approx(1.7, rel=1e-3)


@given(st.floats(0.3, 3), st.floats(0.5, 5))
@settings(max_examples=5, deadline=None)
def test_a_trend_is_as_wide_as_its_errors_and_wider_farther_away(width, factor):
    sizes = 1e4 * 2.0 ** np.arange(4)

    def at(spread, times):
        cells = Cells(np.full(4, 0.4), np.eye(4) * spread**2, sizes, np.full(4, 1e3), np.arange(4), 20.0)
        return np.ptp(np.quantile(trend(cells).at(times * sizes[-1], 1e3), [0.05, 0.95]))

    assert at(0.1 * width, 10) < at(0.2 * width, 10)
    assert at(0.05, 1) < at(0.05, 1 + factor) < at(0.05, 3 + 3 * factor)


def write(path, law=lambda x: 0.5, names=("arm", "size", "steps", "loss", "seed"), **options):
    rows = [
        dict(zip(names, (arm, f"{size:g}", f"{step:g}", f"{value:.6f}", seed), strict=True))
        for size, arm, seed, values in losses(law, **options)
        for step, value in zip(STEPS, values, strict=True)
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
    return path


def test_tables_say_the_same_as_what_they_were_written_from(tmp_path):
    (straight,) = gain(arms(lambda x: 0.5), draws=60)
    for path, columns in (
        (write(tmp_path / "a.csv"), {}),
        (write(tmp_path / "a.jsonl"), {}),
        (
            write(tmp_path / "b.csv", names=("optimizer", "params", "iter", "val_loss", "trial")),
            {"arm": "optimizer", "seed": "trial"},
        ),
    ):
        (made,) = sooner.forecast.gain([path], columns=columns, draws=60)
        assert (made.baseline, made.contender) == ("old", "new")
        assert made.target.value == pytest.approx(straight.target.value, rel=0.01), path
    assert len(read_arms([tmp_path / "a.csv"]).curves) == 4


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["sooner", "forecast", "gain", *map(str, words)])
    monkeypatch.setenv("COLUMNS", "200")
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_command_prints_json_and_writes_a_page(tmp_path, monkeypatch, capsys):
    path = write(tmp_path / "runs.csv")
    code, out, _ = run(monkeypatch, capsys, path, "--draws", 60, "--out", tmp_path / "page.html")
    assert code == 0
    assert out.startswith("the gain of new over old survives")
    assert "forecast" in out
    assert "Speed-up of new over old" in (tmp_path / "page.html").read_text(encoding="utf-8")
    code, out, _ = run(monkeypatch, capsys, path, "--draws", 60, "--json", "--length-times", 2)
    data = json.loads(out)
    assert data["gains"][0]["verdict"] == "survives"
    assert data["gains"][0]["target"]["length"] == 2000
    assert any("within their runs" in text for text in data["warnings"])


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("", [], "t.csv is empty"),
        ("arm,size,steps,loss\n", [], "t.csv has headings and no rows"),
        ("size,steps,loss\n1,1,1\n", [], "t.csv has no heading 'arm'"),
        ("arms,size,steps,loss\na,1,1,1\n", [], "t.csv has no heading 'arm' (did you mean 'arms'?)"),
        ("arm,steps,loss\na,1,1\n", [], "t.csv has no heading 'size'"),
        ("arm,size,steps,loss\na,1,1,x\n", [], "row 2 of t.csv has 'x' in the column 'loss'"),
        ("arm,size,steps,loss\na,1,10,2\na,2,10,2\n", [], "there is no arm besides 'a'"),
        ("arm,size,steps,loss\na,1,10,2\nb,2,10,2\n", [], "no size has runs of both a and b"),
        ("arm,size,steps,loss\na,1,10,2\nb,1,10,2\n", [], "the runs of a at size 1 share 1 step"),
        ("arm,size,steps,loss\na,1,10,2\nb,1,10,2\n", ["--contender", "c"], "there is no arm 'c'"),
        ("arm,size,steps,loss\na,1,10,2\nb,1,10,2\n", ["--baseline", "b", "--contender", "b"], "are both 'b'"),
        ("arm,size,steps,loss\na,1,10,2\n", ["--draws", "3"], "--draws is 3; give 20 or more"),
        ("arm,size,steps,loss\na,1,10,2\n", ["--size-times", "0"], "--size-times is 0; give a positive number"),
    ],
)
def test_a_table_that_tells_no_gain_is_one_sentence(tmp_path, monkeypatch, capsys, text, words, said):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    code, out, err = run(monkeypatch, capsys, tmp_path / "t.csv", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_loss_that_does_not_fall_and_a_single_size_are_refused():
    with pytest.raises(SoonerError, match="ran together at one size"):
        gain(arms(lambda x: 0.5, sizes=1))
    flat = Arms()
    for size in (1.0, 2.0):
        for arm in ("old", "new"):
            for seed in "01":
                flat.add(size, 1000.0, arm, seed, [(s, 1.0 + s / 1e4) for s in STEPS.tolist()])
    with pytest.raises(SoonerError, match="a loss does not fall after the first quarter of the steps"):
        gain(flat)
