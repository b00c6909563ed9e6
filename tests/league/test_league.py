"""The league table: what is collected, who is ranked, and the cautions that come with it."""

import json
import shutil
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sooner.cli import main
from sooner.cli.league import cautions
from sooner.error import SoonerError
from sooner.league import Apart, Comparison, collect, table, variants
from sooner.race.journal import read
from sooner.race.journal_lines import write_line
from sooner.race.plan import Plan
from sooner.race.referee import run
from sooner.recipe import Recipe
from sooner.recipe.text import written
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
    assert found.apart == [Apart(["d", "e"], "")]


def test_a_rank_says_on_how_many_comparisons_it_rests_and_with_whom():
    found = table(comparisons("text", 6, adamw=5, muon=4) + comparisons("digits", 8, adamw=3, sgd=4, adamp=2))
    rests = {row.recipe: (row.comparisons, row.workloads, row.direct) for row in found.rows}
    assert found.reference == "adamw"
    assert rests == {"adamw": (14, 2, 14), "muon": (6, 1, 6), "sgd": (8, 1, 8), "adamp": (8, 1, 8)}
    assert found.through == []


def test_what_never_ran_beside_the_reference_is_told_with_the_race_in_which_it_would():
    def raced(workload, command, **steps):
        return [replace(c, race=command) for c in comparisons(workload, **steps)]

    chain = raced("text", "sooner race text --steps 40", adamw=5, muon=4, sgd=7)
    chain += raced("deep", "sooner race deep.py --steps 9", sgd=3, orthogonal=2, root=1)
    chain += raced("clients", "sooner race clients.py --steps 8 --workers 4", local_sgd=3, gossip=2)
    found = table(chain)
    assert found.reference == "sgd", "the arm that most comparisons hold"
    assert found.through == []
    found = table(chain + raced("other", "sooner race other --steps 5", seeds=8, adamw=5, adamp=4))
    assert found.reference == "adamw"
    assert found.through == [
        Apart(["orthogonal", "root"], 'sooner race deep.py --steps 9 --recipes "adamw; orthogonal; root"')
    ]
    assert found.apart == [
        Apart(["gossip", "local_sgd"], 'sooner race clients.py --steps 8 --workers 4 --recipes "adamw; gossip"')
    ]
    told = "\n".join(cautions(found))
    assert "are ranked by way of others alone: orthogonal, root; in this race they would: sooner race deep.py" in told
    assert "this race would join them: sooner race clients.py --steps 8 --workers 4" in told


def test_variants_fix_what_another_recipe_of_the_same_parts_leaves_open():
    field = ["adamw", "adamw(weight_decay=0.0)", "adamw(lr=log(0.1, 1.0))", "muon + cosine", "muon(lr=0.1) + cosine"]
    field += ["top_k(ratio=0.1) + sgd", "top_k(ratio=0.01) + sgd", "sooner.claims.conadv.Sequential + adamw"]
    assert variants(field) == {field[1], field[2], field[4], field[7]}
    assert variants(["root(quantile=1.0)"]) == set(), "alone it is what raced"


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)),
)
@settings(max_examples=20, deadline=None)
def test_of_two_recipes_at_most_one_is_a_variant(first, second):
    """Fixing more is an order: never both, and both only stand where neither holds the other's settings."""
    one, two = (written("muon", settings, {}) for settings in (first, second))
    found = variants([one, two])
    assert len(found) <= 1
    nested = first.items() <= second.items() or second.items() <= first.items()
    assert bool(found) == (nested and first != second)


def test_variants_of_claims_stand_apart_and_those_of_a_race_of_ones_own_do_not(races, tmp_path):
    result = read(races / "0").find("result", "result")
    assert collect([races], published=False).variants == []
    claims = tmp_path / "claims"
    for folder, recipe in (("0", "adamw"), ("1", "adamw(weight_decay=0)")):
        target = claims / "races" / folder
        shutil.copytree(races / "0", target)
        lines = (target / "journal.jsonl").read_text(encoding="utf-8").splitlines()
        place = next(i for i, line in enumerate(lines) if '"kind":"result"' in line.replace(" ", ""))
        data = json.loads(json.dumps(result).replace('"recipe": "adamw"', f'"recipe": "{recipe}"'))
        lines[place] = write_line("result", "result", data).decode().rstrip()
        (target / "journal.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert collect([claims], published=False).variants == []
    (claims / "adamw-12345678").mkdir()
    (claims / "adamw-12345678" / "evidence.jsonl").write_text("", encoding="utf-8")
    found = collect([claims], published=False)
    assert found.variants == ["adamw(weight_decay=0)"]
    assert all(set(c.steps) <= {"sgd", "adamw"} for c in found.comparisons)


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
    found = collect([races], published=False).comparisons
    assert len(found) == 6
    assert all(set(c.steps) == {"sgd", "adamw", "normalized_gd"} for c in found)
    assert {c.seed for c in found} == set(range(30_000, 30_006))
    assert {c.race for c in found} == {"sooner race quadratic --steps 40"}


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
