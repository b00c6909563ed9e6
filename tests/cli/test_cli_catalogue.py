"""`sooner papers`, `sooner parts` and `sooner explain` on the command line."""

import json
import subprocess
import sys

from sooner import catalogue


def test_all_papers_are_listed(cli):
    told = cli("papers")
    assert told.code == 0
    assert "174 papers" in told.out


def test_a_need_finds_papers_and_an_id_shows_one(cli):
    told = cli("papers", "slow", "network")
    assert "dgc" in told.out
    assert "stablemax" not in told.out
    told = cli("papers", "sophia")
    assert "https://arxiv.org/abs/2305.14342" in told.out
    assert catalogue.of_part("sophia_g").headline in told.out


def test_json_is_the_rows(cli):
    rows = json.loads(cli("papers", "less memory", "--json").out)
    assert {"id", "title", "status", "needs"} <= set(rows[0])
    assert all("less memory" in row["needs"] for row in rows[:10])


def test_a_query_without_a_hit_ends_with_one_sentence(cli):
    told = cli("papers", "adabeleif")
    assert told.code == 2
    assert "did you mean 'adabelief'" in told.err.replace("\n", " ")


def test_a_part_is_explained_by_its_card_and_a_recipe_by_its_order(cli):
    told = cli("explain", "muon")
    assert told.code == 0
    assert "Use it when" in told.out
    assert "owns the step" in told.out
    assert cli("parts", "muon").out == told.out
    assert "Use it when" not in cli("explain", "muon + cosine").out
    assert cli("explain", "muonn").code == 2


def test_listing_parts_and_papers_loads_no_torch():
    code = "import sys; from sooner.cli import app; app({words}, result_action='return_value'); "
    code += "print('torch' in sys.modules)"
    for words in (["parts"], ["papers", "less memory"]):
        done = subprocess.run(
            [sys.executable, "-c", code.format(words=words)], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "False"
