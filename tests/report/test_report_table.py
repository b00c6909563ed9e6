import copy
import json

import pytest
from sample_result import HOSTILE, SAMPLES, SYNTHETIC

from sooner.race.statistics import ratio_summary
from sooner.report import details, figures, html, table, words


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("width", [60, 80, 120, 160])
def test_no_line_is_wider_than_the_terminal(name, width):
    text = table.text(SAMPLES[name], width)
    assert max(len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize("width", [80, 160])
def test_every_contender_shows_what_was_measured(width):
    text = table.text(SAMPLES["out"], width)
    for expected in (
        "adamw + linear",
        "baseline",
        "muon(lr=0.02) + linear",
        "faster",
        "0.57x [0.53, 0.61]",
        "0.023",
        "8/8",
        "0.96x",
        "1.755 ± 0.010",
        "1.12x",
        "332 MiB",
        "lr=0.012",
        "never",
        "slower",
        "(edge: lr)",
        "sophia is out: it diverged at the start with every setting that was tried.",
        "A/A noise floor",
        "1.01x [0.94,",
        "Tuning: 5 trials",
        f"Note: {SYNTHETIC}",
        "Failed: sophia, trial 3, seed 0: the loss was not finite at step 12",
    ):
        assert expected in text


def test_wide_table_has_one_line_per_contender_and_narrow_has_few_columns():
    wide, narrow = table.text(SAMPLES["plain"], 160), table.text(SAMPLES["plain"], 80)
    line = next(line for line in wide.splitlines() if line.startswith("muon"))
    assert "faster" in line
    assert "weight_decay=0.1" in line
    line = next(line for line in narrow.splitlines() if line.startswith("muon"))
    assert line.split("  ")[0] == "muon(lr=0.02) + linear"
    assert "1.755 ± 0.010" in line
    assert "faster" not in line


def test_withheld_time_is_said_and_no_cost_is_shown():
    text = table.text(SAMPLES["withheld"], 80)
    assert "Time is withheld: the machine was busy" in text
    assert "cost per step" not in text


def test_names_are_neither_markup_nor_control_sequences():
    text = table.text(SAMPLES["hostile"], 200)
    assert "\x1b" not in text
    assert "[red]markup[/red]" in " ".join(text.split())
    assert "<script>alert(1)</script>" in text


def test_without_targets_nothing_is_claimed_about_steps():
    text = table.text(SAMPLES["no targets"], 160)
    assert "No targets: the baseline did not set any." in text
    line = next(line for line in text.splitlines() if line.startswith("muon"))
    assert "x [" not in line
    assert "8/8" not in line


def missing(ours, theirs):
    """The sample race, with steps to the middle target of muon and of the baseline that are given."""
    result = copy.deepcopy(SAMPLES["plain"])
    for row, steps in zip(result["contenders"][:2], (theirs, ours), strict=True):
        row["targets"]["middle"].update(ratio_summary(steps, theirs))
        row["ratio_with_tuning"] = row["time_ratio"] = None
    return result


HALF, ALL, NEVER = [90.0] * 4 + [None] * 4, [60.0] * 8, [None] * 8


@pytest.mark.parametrize(
    ("ours", "theirs", "muon", "baseline"),
    [
        (ALL, HALF, "only muon + linear arrives (8 of 8, baseline 4 of 8)", "1x"),
        (ALL, NEVER, "only muon + linear arrives (8 of 8, baseline 0 of 8)", "–"),
        (HALF, ALL, "too few arrive (4 of 8, baseline 8 of 8)", "1x"),
        (NEVER, ALL, "never", "1x"),
        (NEVER, NEVER, "neither arrives (0 of 8, baseline 0 of 8)", "–"),
        (HALF, HALF[::-1], "1.00x [only it, never]", "1x"),
        (ALL, [120.0] * 8, "0.50x [0.50, 0.50]", "1x"),
    ],
)
def test_who_misses_the_target_is_said_wherever_the_ratio_stands(ours, theirs, muon, baseline):
    result = missing(ours, theirs)
    first, second = result["contenders"][:2]
    assert words.cells(second, result)["steps"] == muon
    assert words.cells(first, result)["steps"] == baseline
    for text in (table.text(result, 200), table.text(result, 80)):
        assert " ".join(muon.split()[:2]) in text
        assert "0x" not in text.split()
    (row,) = (cells for at, cells in details.at_every_target(result).rows if at == 1 and cells[1] == "middle")
    assert row[2].replace("\N{NO-BREAK SPACE}", " ") == muon
    drawn = json.dumps(figures.build(result), ensure_ascii=False)
    assert f"middle target: {muon}, {sum(one is not None for one in ours)}/8 hits" in drawn
    assert '"0x"' not in drawn
    assert muon in html.page(result).replace("\N{NO-BREAK SPACE}", " ")


def test_a_noise_floor_that_only_one_side_reaches_is_worded():
    result = missing(ALL, HALF)
    result["noise_floor"].update(ratio_summary(ALL, HALF))
    told = words.noise_floor(result)
    assert "with other seeds: only that arm arrives (8 of 8, baseline 4 of 8), p " in told


def test_nested_settings_and_long_recipes_have_a_short_name():
    assert words.short({"recipe": "sam(sgd(lr=log(0.1, 1)), rho=0.1) + cosine"}) == "sam + cosine"
    assert words.short({"recipe": " + ".join(["streaming_diloco"] * 3)}) == "it"


def test_render_adapts_to_the_console():
    from rich.console import Console

    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        console.print(table.render(SAMPLES["plain"]))
    assert [line.rstrip() for line in capture.get().splitlines()] == table.text(SAMPLES["plain"], 160).splitlines()


def test_contenders_are_listed_by_verdict_then_ratio():
    listed = [contender["verdict"] for _, contender in words.ordered(SAMPLES["ten"])]
    assert listed[0] == "baseline"
    assert [verdict for k, verdict in enumerate(listed) if verdict not in listed[:k]] == list(words.VERDICTS)
    ratios = [
        words.primary(c, SAMPLES["ten"])["ratio"] for _, c in words.ordered(SAMPLES["ten"]) if c["verdict"] == "faster"
    ]
    assert ratios == sorted(ratios)


def test_a_referee_sentence_gets_a_capital_unless_a_recipe_comes_first():
    assert words.sentence({"recipe": "sgd", "sentence": "reaches the target"}) == "Reaches the target."
    assert words.sentence({"recipe": "sgd", "sentence": "sgd needs longer."}) == "sgd needs longer."
    assert words.sentence({"recipe": "sgd", "sentence": None}) == ""


def test_diverged_runs_leave_no_mean_and_are_counted():
    assert words.final_value({"mean": None, "sd": None, "values": [1.0, None, None]}) == "2 of 3 diverged"


def test_a_noise_floor_without_hits_is_unknown():
    result = copy.deepcopy(SAMPLES["plain"])
    result["noise_floor"].update(ratio=None, low=0.0, high=None, hits=0)
    assert "unknown" in words.noise_floor(result)


def test_hostile_names_are_the_ones_meant():
    assert HOSTILE[1].startswith("<script>")
    assert "\x1b" in HOSTILE[3]


def judged_always():
    """A result of a race that was judged after every seed, with words on the final values."""
    result = copy.deepcopy(SAMPLES["plain"])
    result.update(looks=list(range(6, 65)), until=64, intervals={"level": 0.95, "kind": "after every seed"})
    muon = result["contenders"][1]
    muon["final"].update(
        smallest_difference=0.0123, word="better", sentence="ends 0.045 below adamw + linear in loss at equal budget"
    )
    return result


@pytest.mark.parametrize("width", [60, 160])
def test_final_values_and_smallest_effects_are_said_under_the_table(width):
    text = " ".join(table.text(judged_always(), width).split())
    assert (
        "Final loss of muon(lr=0.02) + linear, better: it ends 0.045 below adamw + linear in loss at equal budget."
        in text
    )
    assert "muon(lr=0.02) + linear 0.85x of the steps or less and 0.012 at the end or more;" in text
    assert "p-values hold after every seed at once: the race could stop at any of them, at the latest after 64." in text


def test_the_kind_of_intervals_is_said_where_it_is_known():
    result = judged_always()
    page = html.page(result)
    assert page.count("hold after every seed at once") == 2  # under the table and in the guide
    assert "results were looked at after every seed from 6 on, up to 64, as declared" in page
    assert "0.012 or more" in page
    result.update(until=None, looks=[8, 16], intervals={"level": 0.975, "kind": "at one look"})
    assert words.intervals(result) == (
        "Intervals are 97.5 % bootstrap intervals of one look; the race was declared to look 2 times, and the level is "
        "divided by that."
    )
    old = SAMPLES["plain"]  # by rules of version 1
    assert words.intervals(old) == ""
    assert words.finals(old) == []
    assert "after every seed at once" not in table.text(old, 100)
