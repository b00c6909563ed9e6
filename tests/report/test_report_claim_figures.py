"""The plots of evidence: figures stand where they belong, by unit, with limit, interval, floor and the paper's own."""

import math

import pytest

from sooner.claims._claim import Measured, Outcome
from sooner.claims._evidence import Evidence
from sooner.report.claim import figure as told
from sooner.report.figures import claim


def evidence(*outcomes, findings=None, trend=None):
    return Evidence("muon", {}, {}, {}, findings or {}, list(outcomes), trend or {}, "reproduced")


def ratio(value, low=None, high=None, met=True, **more):
    measured = Measured(value, low, high, 0.01, (0.9, 1.1), "x")
    return Outcome(
        more.pop("says", "a ratio"), measured, met, "", more.pop("control", False), more.pop("paper", ""), **more
    )


def points(figure):
    return [trace for trace in figure["data"] if "markers" in trace["mode"]]


def test_a_ratio_has_its_interval_limit_floor_and_the_papers_figure():
    figure = claim.build(evidence(ratio(0.7, 0.6, 0.8, paper="about 0.5x", limit=0.85)))["criteria"]
    line, point, paper = figure["data"]
    assert line["x"] == [0.6, 0.8]
    assert point["x"] == [0.7]
    assert point["marker"]["symbol"] == "circle"
    assert "0.7x [0.6, 0.8], met: yes" in point["hovertext"][0]
    assert paper["x"] == [0.5]
    assert paper["marker"]["symbol"] == "triangle-down"
    spans = [(shape["x0"], shape["x1"]) for shape in figure["layout"]["shapes"]]
    assert {(1, 1), (0.85, 0.85), (0.9, 1.1)} == set(spans)
    low, high = (10**end for end in figure["layout"]["xaxis"]["range"])
    assert low < 0.5
    assert high > 1.1


@pytest.mark.parametrize(("met", "symbol"), [(True, "circle"), (False, "x"), (None, "diamond-open")])
def test_a_symbol_says_whether_a_criterion_was_met(met, symbol):
    (point,) = points(claim.build(evidence(ratio(0.7, met=met)))["criteria"])
    assert point["marker"]["symbol"] == symbol


@pytest.mark.parametrize(("value", "side", "word"), [(math.inf, "right", "never"), (0.001, "left", "0.001x")])
def test_what_falls_off_the_axis_is_an_arrow_with_its_figure(value, side, word):
    figure = claim.build(evidence(ratio(value), ratio(1.2)))["criteria"]
    arrow, point = points(figure)
    assert arrow["marker"]["symbol"] == f"triangle-{side}"
    assert arrow["text"] == [word]
    assert "text" not in point
    low, high = (10**end for end in figure["layout"]["xaxis"]["range"])
    assert low < arrow["x"][0] < high


@pytest.mark.parametrize(
    ("measured", "text"),
    [
        (Measured(0.61, 0.58, 0.634, unit="x"), "0.61x [0.58, 0.634]"),
        (Measured(0.61, 0.0, 0.634, unit="x"), "0.61x [only it, 0.634]"),
        (Measured(1.2, 0.0, math.inf, unit="x"), "1.2x [only it, never]"),
        (Measured(0.0, 0.0, 0.0, unit="x"), "only it arrives"),
        (Measured(0.0, 0.0, 0.9, unit="x"), "only it arrives"),
        (Measured(math.inf, math.inf, math.inf, unit="x"), "never"),
        (Measured(math.inf, 0.0, math.inf, unit="x"), "never"),
        (Measured(math.inf, 1.3, math.inf, unit="x"), "never [1.3, never]"),
        (Measured(0.0, unit="x"), "0x"),  # nothing is sent, exactly
        (Measured(0.0, 0.0, 0.2, unit=" steps"), "0 steps [0, 0.2]"),
    ],
)
def test_a_ratio_that_is_not_finite_says_who_arrives(measured, text):
    assert told(measured) == text


def test_figures_of_one_unit_share_an_axis_and_undecided_ones_are_left_out():
    found = [
        ratio(0.5),
        Outcome("bytes", Measured(100.0, unit=" bytes"), True, "", False, "120 bytes", 150.0),
        Outcome("more bytes", Measured(90000.0, unit=" bytes"), True, "", False, "half", None),
        Outcome("a share", Measured(0.3, 0.2, 0.4), True, "", False, "", None),
        Outcome("open", Measured(math.nan, unit="x", undecided="no target"), None, "no target", False, "", None),
    ]
    drawn = claim.build(evidence(*found))
    assert list(drawn) == ["criteria", "criteria (bytes)", "criteria (a share)"]
    assert len(points(drawn["criteria"])) == 1
    assert [point["x"] for point in points(drawn["criteria (bytes)"])] == [[100.0], [120.0], [90000.0]]
    assert drawn["criteria (bytes)"]["layout"]["xaxis"]["type"] == "log"
    low, high = drawn["criteria (a share)"]["layout"]["xaxis"]["range"]
    assert low < 0.2 < 0.4 < high


def test_rows_do_not_overlap_and_text_is_no_markup():
    says = "a sentence that is long enough to need more than one line on a phone: <b>$x$</b> & so on"
    layout = claim.build(evidence(ratio(0.7, says=says), ratio(0.8, says=says, control=True)))["criteria"]["layout"]
    first, second = layout["annotations"]
    assert "&lt;b&gt;&#36;x&#36;&lt;/b&gt;" in first["text"]
    assert second["text"].startswith("control: ")
    assert first["y"] - second["y"] >= first["text"].count("<br>") + 2
    assert layout["height"] > 2 * 3 * claim.LINE


def test_the_trend_is_a_plot_of_its_own():
    drawn = claim.build(evidence(trend={"small": Measured(0.6, 0.5, 0.7, unit="x"), "large": Measured(0.8, unit="x")}))
    assert [point["x"] for point in points(drawn["trend"])] == [[0.6], [0.8]]


def race(*, higher_is_better=False, curves=((4.0, 3.0, 2.0), (4.0, 2.5, 1.5))):
    rows = [
        {"recipe": f"recipe {i}", "curve": {"steps": [0, 5, 10], "mean": list(c), "low": list(c), "high": list(c)}}
        for i, c in enumerate(curves)
    ]
    task = {"metric": "loss", "higher_is_better": higher_is_better}
    return {"contenders": rows, "task": task, "targets": {"middle": 2.2}, "primary_target": "middle"}


def test_curves_show_every_contender_and_the_target():
    figure = claim.build(evidence(findings={"a race": race()}))["curves: a race"]
    lines = [trace for trace in figure["data"] if trace.get("hoverinfo") == "text"]
    assert [trace["y"] for trace in lines] == [[4.0, 3.0, 2.0], [4.0, 2.5, 1.5]]
    assert figure["data"][-1]["y"] == [2.2, 2.2]
    low, high = figure["layout"]["yaxis"]["range"]
    assert low < 1.5
    assert 3.0 < high < 4.0  # the first fall is much the same for all


@pytest.mark.parametrize("higher", [False, True])
def test_a_diverging_curve_does_not_flatten_the_others(higher):
    worse = (0.1, 0.05, -900.0) if higher else (4.0, 5.0, 900.0)
    good = (0.1, 0.5, 0.9) if higher else (4.0, 3.0, 2.0)
    found = race(higher_is_better=higher, curves=(good, worse))
    low, high = claim.mean_curves(found)["layout"]["yaxis"]["range"]
    assert high - low < 4


def test_a_race_without_curves_has_no_plot():
    found = race(curves=())
    found["contenders"] = [{"recipe": "out", "curve": {"steps": [], "mean": [], "low": [], "high": []}}]
    assert claim.mean_curves(found) is None
