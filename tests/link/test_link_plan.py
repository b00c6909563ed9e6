"""The link model and the plan: arithmetic by hand, costs from the codecs themselves, and where each stops paying."""

import json
import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sooner.error import SoonerError
from sooner.foundation.layout import Layout
from sooner.link import LinkModel, plan
from sooner.link._cost import cost
from sooner.link._plan import default_recipes, layout_of_size, measured_step
from sooner.link._plan_rows import MOST_WORKERS, Cost
from sooner.recipe import slot
from sooner.workloads import find

LAYOUT = Layout({"matrix": (60, 50), "bias": (60,)})
NUMBERS = 3060


def parts(*names, **settings):
    return [slot(name).factory(**settings.get(name, {})) for name in names]


def test_headers_follow_from_the_packet():
    assert LinkModel(1e6).headers == 66 / 1448
    assert LinkModel(1e6, mtu=9000).headers == 66 / 8948
    assert LinkModel(1e8, alpha=1e-3).seconds(1448e3, messages=4) == pytest.approx(4e-3 + 1514e3 * 8 / 1e8)
    assert LinkModel(math.inf).seconds(1e9, messages=7) == 0


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": 1e6, "alpha": -1.0}, {"rate": 1e6, "mtu": 52}])
def test_a_link_out_of_range_is_refused(wrong):
    with pytest.raises(SoonerError, match="give"):
        LinkModel(**wrong)


def test_costs_are_those_of_the_payloads():
    dense = cost(parts("dense"), LAYOUT)
    assert (dense.averaged, dense.gathered, dense.payload) == (4 * NUMBERS, 0, 4 * NUMBERS)
    assert (dense.sent(2), dense.sent(8)) == (4 * NUMBERS, 2 * 7 / 8 * 4 * NUMBERS)
    assert dense.messages(8) == 14
    sparse = cost(parts("top_k", "ef", top_k={"ratio": 0.01}), LAYOUT)
    assert (sparse.averaged, sparse.gathered) == (0, 8 * math.ceil(0.01 * NUMBERS))
    assert (sparse.sent(9), sparse.messages(9)) == (8 * sparse.gathered, 8)
    window = cost(parts("local_sgd", "fp16", local_sgd={"every": 10}), LAYOUT)
    assert (window.payload, window.messages(2)) == (2 * NUMBERS / 10, 2 / 10)
    low = cost(parts("powersgd", "ef", powersgd={"rank": 2}), LAYOUT)
    assert (low.payload, low.averages) == (4 * (2 * (60 + 50) + 60), 2)
    assert cost(parts("silent"), LAYOUT).payload == 0


def test_warm_ups_are_over_when_bytes_are_counted():
    early = cost(parts("dgc", dgc={"ratio": 0.01, "warm_up": 1000}), LAYOUT)
    assert early.payload == cost(parts("dgc", dgc={"ratio": 0.01}), LAYOUT).payload


def test_every_default_recipe_has_a_cost():
    names = default_recipes()
    assert {"dense", "fp16", "top_k + ef", "dgc", "local_sgd(every=10) + fp16"} <= set(names)
    made = plan(names, LAYOUT, 0.1, LinkModel(1e8), 4)
    assert [row.name for row in made.rows[:2]] == ["dense", "fp16"]
    assert all(row.cost.payload > 0 for row in made.rows)
    assert len({row.name for row in made.rows}) == len(made.rows)


costs = st.builds(
    Cost, *[st.floats(0, 1e8)] * 2, st.just(0.0), st.floats(0, 2), st.floats(0, 2), st.just(0.0), st.floats(0, 0.1)
)


@settings(max_examples=40)
@given(costs, costs, st.integers(2, 64), st.floats(0, 1e-3))
def test_below_the_break_even_it_pays_and_above_it_does_not(one, base, workers, alpha):
    from sooner.link._plan import _against

    link = LinkModel(1e8, alpha)
    below = _against(one, base, link, workers).below

    def saved(rate):
        """Seconds saved per step behind a link, as a share of the seconds of both, so that rounding is near 1e-15."""
        at = LinkModel(rate, alpha)
        taken = [c.seconds + at.seconds(c.sent(workers), c.messages(workers)) for c in (base, one)]
        return (taken[0] - taken[1]) / (sum(taken) or 1)

    if below == math.inf:
        assert all(saved(rate) >= -1e-9 for rate in (1e-6, 1e3, 1e15))
    elif below:
        assert saved(below / 2) >= -1e-9
        assert saved(below * 2) <= 1e-9
        assert saved(below) == pytest.approx(0, abs=1e-9)
    else:
        assert saved(1e-9) <= 1e-9


def test_sparse_codecs_lose_at_many_workers():
    layout, _ = layout_of_size(1e5)
    made = plan(["top_k(ratio=0.01)", "powersgd"], layout, 0.1, LinkModel(1e4), 8)
    by_name = {row.name: row for row in made.rows}
    # (n - 1) 0.08 d < 2 (n - 1) / n 4 d until n = 100; against half the bytes until 50; codecs take no time beside this
    assert by_name["top_k(ratio=0.01)"].against["dense"].workers == 99
    assert by_name["top_k(ratio=0.01)"].against["fp16"].workers == 49
    assert by_name["powersgd"].against["dense"].workers == MOST_WORKERS
    assert set(by_name["dense"].against) == {"fp16"}


def test_a_model_that_is_too_large_is_scaled():
    layout, size = layout_of_size(1e12)
    assert layout.size < 2e7 < size
    layout, size = layout_of_size(5e6)
    assert layout.size == pytest.approx(size, rel=0.1)
    made = plan([], LAYOUT, 0.1, LinkModel(1e8), 2, 10 * NUMBERS)
    assert made.rows[0].cost.payload == 40 * NUMBERS
    assert made.scaled == NUMBERS


def test_a_step_is_measured_on_the_task():
    layout, seconds = measured_step(find("quadratic"))
    assert layout.size > 0
    assert seconds > 0


def test_the_plan_is_printed_and_told_as_json(capsys, monkeypatch):
    from sooner.cli import main

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["sooner", "link", "plan", *words])
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setenv("COLUMNS", "160")
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        return capsys.readouterr().out

    words = ["--parameters", "2e8", "--step", "0.5", "--codecs", "sign + ef; fp16", "--workers", "8"]
    shown = call("--parameters", "1e5", *words[2:])
    assert shown.startswith("modelled: 100,000 parameters, 0.5 s per step without a link, 8 workers")
    assert "sign + ef" in shown
    told = json.loads(call("--parameters", "1e5", *words[2:], "--json"))
    assert told["link"] == "modelled"
    assert [row["recipe"] for row in told["codecs"]] == ["dense", "fp16", "sign + ef"]
    assert told["codecs"][0]["wire_bytes"] == pytest.approx(4e5 * 2 * 7 / 8 * (1 + 66 / 1448))
