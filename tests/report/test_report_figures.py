import copy
import math

import pytest
from sample_result import SAMPLES, SCRIPT

from sooner.report import figures
from sooner.report.figures.base import RatioAxis, escape, labels, shorten
from sooner.report.figures.curves import horizons, quantile

ALL = {"ratios", "curves", "paired", "final", "sensitivity", "best-of-k", "cost"}


def texts(value):
    """All strings in a figure that Plotly shows."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("text", "hovertext", "ticktext"):
                yield from [item] if isinstance(item, str) else [part for part in item if isinstance(part, str)]
            else:
                yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("plain", set()),
        ("ten", set()),
        ("budgeted", set()),
        ("higher", set()),
        ("withheld", {"cost"}),
        ("single", {"ratios", "paired", "cost"}),
        ("no targets", {"ratios"}),
    ],
)
def test_which_figures_are_drawn(name, missing):
    drawn = figures.build(SAMPLES[name])
    assert set(drawn) == ALL - missing
    assert all(figure["data"] for figure in drawn.values())


def test_names_cannot_be_read_as_markup():
    found = [text for figure in figures.build(SAMPLES["hostile"]).values() for text in texts(figure)]
    assert any("&lt;script&gt;alert(1)&lt;/script&gt;" in text for text in found)
    for text in found:
        assert "<" not in text.replace("<br>", "").replace("<b>", "").replace("</b>", "")
    assert not any("<b>bold" in text for text in found)
    assert escape(SCRIPT + "&\x1b") == "&lt;script&gt;alert(1)&lt;/script&gt;&amp; "


def test_labels_are_short_and_distinct():
    result = copy.deepcopy(SAMPLES["plain"])
    for contender in result["contenders"]:
        contender["recipe"] = "muon(" + "lr=0.02, " * 20 + ") + linear"
    made = labels(result)
    assert len(set(made)) == len(made)
    assert all(len(label) <= 40 for label in made)
    assert shorten("short") == "short"


def traces_of(figure, position):
    return [trace for trace in figure["data"] if trace.get("legendgroup") == str(position)]


def test_an_infinite_ratio_is_an_arrow_with_a_word():
    figure = figures.build(SAMPLES["out"])["ratios"]
    marks = [trace for trace in traces_of(figure, 2) if "text" in trace]
    assert [mark["text"] for mark in marks] == [["never"]] * 3
    assert all(mark["marker"]["symbol"] == "triangle-right" for mark in marks)
    high = 10 ** figure["layout"]["xaxis"]["range"][1]
    assert all(mark["x"][0] < high for mark in marks)


def test_the_noise_floor_is_a_band_that_holds_one():
    result = copy.deepcopy(SAMPLES["plain"])
    result["noise_floor"].update(low=1.02, high=1.1)
    band = next(shape for shape in figures.build(result)["ratios"]["layout"]["shapes"] if shape["type"] == "rect")
    assert (band["x0"], band["x1"]) == (1.0, 1.1)
    result["noise_floor"] = None
    assert [shape["type"] for shape in figures.build(result)["ratios"]["layout"]["shapes"]] == ["line"]


def test_targets_that_were_not_set_have_no_row():
    result = copy.deepcopy(SAMPLES["plain"])
    result["targets"]["tight"] = None
    assert set(figures.build(result)["ratios"]["layout"]["yaxis"]["ticktext"]) == {"loose", "middle"}


def test_misses_are_counted_at_the_edge_of_the_paired_plot():
    result = copy.deepcopy(SAMPLES["plain"])
    baseline, muon = result["contenders"][:2]
    steps = [50.0, None, None, 80.0, None, 60.0, 60.0, 60.0]
    others = [100.0, 100.0, 100.0, None, None, 100.0, 100.0, 100.0]
    baseline["targets"]["middle"]["steps"], muon["targets"]["middle"]["steps"] = others, steps
    marks = traces_of(figures.build(result)["paired"], 1)
    assert sorted(mark["text"][0] for mark in marks if "text" in mark) == ["2 never", "baseline: 1 never"]
    dots = next(mark for mark in marks if mark["mode"] == "markers")
    assert sorted(dots["x"]) == [0.5, 0.6, 0.6, 0.6]
    assert any(mark.get("hovertext", "").startswith("median") for mark in marks if isinstance(mark["hovertext"], str))


def test_a_diverged_run_is_marked_and_counts_as_the_worst():
    figure = figures.build(SAMPLES["plain"])["curves"]
    traces = traces_of(figure, 2)
    cross = next(trace for trace in traces if trace["meta"] == "diverged")
    low, high = figure["layout"]["yaxis"]["range"]
    assert len(cross["x"]) == 1
    assert low < cross["y"][0] < high
    curves = [{"seed": k, "steps": [0, 1], "values": [2.0, 1.0 + k], "diverged_at": None} for k in range(3)]
    curves.append({"seed": 3, "steps": [], "values": [], "diverged_at": 0})
    result = copy.deepcopy(SAMPLES["single"])
    result["contenders"][0]["curves"] = curves
    traces = traces_of(figures.build(result)["curves"], 0)
    median = next(trace for trace in traces if trace["meta"] == "median")
    assert median["y"] == [2.0, 2.5]  # the median of 1, 2, 3 and infinity
    assert next(trace for trace in traces if trace["meta"] == "diverged")["x"] == [0]


def test_curves_of_a_budgeted_race_have_a_median_per_horizon():
    curves = SAMPLES["budgeted"]["contenders"][0]["curves"]
    assert [len(family) for family in horizons(curves)] == [8] * 6
    traces = traces_of(figures.build(SAMPLES["budgeted"])["curves"], 0)
    assert [max(trace["x"]) for trace in traces if trace["meta"] == "median"] == SAMPLES["budgeted"]["horizons"]


def test_quantiles_next_to_infinity_are_unknown():
    assert quantile([1.0, 2.0, math.inf], 0.5) == 2.0
    assert quantile([1.0, 2.0, math.inf, math.inf], 0.5) is None
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.25) == 1.75


def test_logarithmic_curves_only_where_all_values_are_positive():
    result = copy.deepcopy(SAMPLES["plain"])
    assert figures.build(result)["curves"]["ranges"]["log"] is not None
    result["contenders"][0]["curves"][0]["values"][3] = -0.1
    assert figures.build(result)["curves"]["ranges"]["log"] is None


def test_sensitivity_marks_best_default_edge_and_diverged_trials():
    for name, side in (("plain", max), ("higher", min)):
        figure = figures.build(SAMPLES[name])["sensitivity"]
        shown = figure["layout"]["yaxis"]["range"]
        square, points = traces_of(figure, 2)[-2:]
        assert square["x"] == [0.001]
        symbols = points["marker"]["symbol"]
        best = symbols.index("star")
        assert points["x"][best] == SAMPLES[name]["contenders"][2]["tuning"]["best"]["lr"]
        assert points["text"][best] == "edge"
        diverged = points["y"][symbols.index("x")]
        assert diverged == side(y for trace in figure["data"] for y in trace["y"] if min(shown) <= y <= max(shown))
        assert all(min(shown) < y < max(shown) for y in points["y"])


def test_sensitivity_falls_back_to_the_first_logarithmic_setting():
    result = copy.deepcopy(SAMPLES["single"])
    tuning = result["contenders"][0]["tuning"]
    tuning["knobs"] = {"momentum": {"kind": "linear"}, "rho": {"kind": "log"}}
    for trial in tuning["trials"]:
        trial["settings"] = {"rho": trial["settings"]["lr"], "momentum": 0.9}
    assert figures.build(result)["sensitivity"]["layout"]["xaxis"]["title"]["text"] == "rho"
    tuning["knobs"] = {"momentum": {"kind": "linear"}}
    assert "sensitivity" not in figures.build(result)


@pytest.mark.parametrize(
    "values",
    [[], [1.0], [None], [0.0], [0.5, None, 0.0], [1e-9, 1e9], [0.97, 1.02], [3.0, 4.0]],
)
def test_ratio_axis_has_room_and_ticks(values):
    axis = RatioAxis(values)
    assert axis.left <= axis.low < 1 < axis.high <= axis.right
    for value in values:
        assert axis.left <= axis.place(value) <= axis.right
        assert bool(axis.off(value)) == (not axis.low <= axis.place(value) <= axis.high)
    ticks = axis.axis("ratio")["tickvals"]
    assert 1.0 in ticks
    assert ticks == sorted(ticks)
