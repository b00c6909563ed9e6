"""The league table: what is collected, who is ranked, and the cautions that come with it."""

import json
import sys

import pytest

from sooner.cli import main
from sooner.error import SoonerError
from sooner.league import Comparison, collect, table
from sooner.race.plan import Plan
from sooner.race.referee import run
from sooner.recipe import Recipe
from sooner.workloads import find


def comparisons(workload, seeds=6, **steps):
    """Every contender's steps, a little different in every seed."""
    return [
        Comparison(
            workload, "", seed, {name: None if s is None else s * (1 + 0.01 * seed) for name, s in steps.items()}
        )
        for seed in range(seeds)
    ]


def test_a_sparse_table_is_ordered_and_empty_cells_stay_empty():
    found = table(comparisons("text", muon=5, adamw=8, sgd=None) + comparisons("digits", adamw=6, sgd=9, adamp=3))
    assert [row.recipe for row in found.rows][-2:] == ["adamw", "sgd"]
    assert [row.rank for row in found.rows] == [1, 2, 3, 4]
    muon = next(row for row in found.rows if row.recipe == "muon")
    assert muon.ratios == {"digits": None, "text": pytest.approx(5 / 8)}
    assert all(row.low <= row.rank <= row.high for row in found.rows)
    assert found.workloads == ["digits", "text"]
    assert found.comparisons == 12


def test_a_large_league_takes_few_fits_and_says_how_far_it_is():
    told = []
    field = {f"c{i}": 100 - i for i in range(40)}
    many = [c for w in range(6) for c in comparisons(f"w{w}", 8, **dict(list(field.items())[5 * w : 5 * w + 12]))]
    found = table(many, lambda what, share: told.append((what, share)))
    assert [row.recipe for row in found.rows] == [f"c{i}" for i in reversed(range(37))]
    names = list(dict.fromkeys(what for what, _ in told))
    assert names == ["intervals of the ranks", "without one workload", "without one contender"]
    for name in names:
        shares = [share for what, share in told if what == name]
        assert shares == sorted(shares)
        assert shares[0] == 0
        assert len(shares) > 5
        assert all(share < 1 for share in shares)


def test_a_workload_that_turns_the_order_round_is_told():
    a = comparisons("a", x=1, y=2, z=3) + comparisons("b", x=1, y=2, z=3)
    found = table(a + comparisons("c", x=3, y=2, z=1))
    assert found.stability["c"] == pytest.approx(1.0)
    assert found.rows[0].without == {"a": 2, "b": 2, "c": 1} or found.rows[0].without["c"] == 1
    assert table(comparisons("a", x=1, y=2)).stability == {"a": None}


def test_contenders_that_nothing_connects_stand_apart():
    found = table(comparisons("text", a=1, b=2, c=3) + comparisons("digits", d=1, e=2))
    assert sorted(row.recipe for row in found.rows) == ["a", "b", "c"]
    assert found.apart == [["d", "e"]]


def test_a_ranking_that_depends_on_the_set_says_so():
    cycle = (
        comparisons("one", 6, a=1, b=2, x=3) + comparisons("two", 5, b=1, x=2, a=3) + comparisons("three", 4, a=2, b=3)
    )
    found = table(cycle)
    for out, first, second in found.swaps:
        assert len({out, first, second}) == 3
    rest = [Comparison(c.workload, c.setting, c.seed, {k: v for k, v in c.steps.items() if k != "x"}) for c in cycle]
    order = [row.recipe for row in found.rows if row.recipe != "x"]
    assert (("x", *order) in found.swaps) == ([row.recipe for row in table(rest).rows] != order)


def test_nothing_to_compare_is_one_sentence():
    with pytest.raises(SoonerError, match="no finished race compares two contenders"):
        table([])
    with pytest.raises(SoonerError, match="no finished race"):
        table(comparisons("text", a=None, b=None))


@pytest.fixture(scope="module")
def races(tmp_path_factory):
    folder = tmp_path_factory.mktemp("races")
    for i, rivals in enumerate((["sgd", "adamw"], ["sgd", "normalized_gd"])):
        plan = Plan(
            find("quadratic"),
            [Recipe(text) for text in rivals],
            looks=(6,),
            tune=1,
            steps=40,
            measure_cost=False,
            jobs=1,
            out=folder / f"{i}",
        )
        run(plan)
    (folder / "damaged").mkdir()
    (folder / "damaged" / "journal.jsonl").write_text("nothing\n")
    return folder


def test_races_on_disk_meet_in_their_common_baseline(races):
    found = collect([races], published=False)
    assert len(found) == 6
    assert all(set(c.steps) == {"sgd", "adamw", "normalized_gd"} for c in found)
    assert {c.seed for c in found} == set(range(30_000, 30_006))


def test_the_command_prints_the_table_and_its_cautions(races, monkeypatch, capsys):
    def told(*words):
        monkeypatch.setattr(sys, "argv", ["sooner", "league", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr()

    monkeypatch.setenv("COLUMNS", "200")
    code, shown = told(races, "--no-evidence")
    assert code == 0
    assert shown.err == "", "progress is for terminals"
    assert "quadratic" in shown.out
    assert "among 3 contenders: " in shown.out
    assert "A ranking depends on who is in the set" in shown.out
    _, shown = told(races, "--no-evidence", "--json")
    assert {row["recipe"] for row in json.loads(shown.out)["rows"]} == {"sgd", "adamw", "normalized_gd"}
    code, shown = told("nowhere")
    assert code == 2
    assert "there is no folder nowhere" in shown.err
