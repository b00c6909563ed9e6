import pytest
from hypothesis import given
from hypothesis import strategies as st

from sooner.race.verdict import inside, judge, judge_final


def summary(ratio, low, high, hits=8, p=0.01):
    return {"ratio": ratio, "low": low, "high": high, "p": p, "hits": hits, "of": 8, "steps": []}


FLOOR = summary(1.01, 0.94, 1.07)
FAST, SLOW, SAME = summary(0.561, 0.5, 0.62), summary(1.4, 1.2, 1.7), summary(0.98, 0.9, 1.06)


def verdict(measured, p, **options):
    return judge(
        measured,
        p,
        **{"baseline": "adamw", "baseline_hits": 8, "smallest_effect": 0.85, **options},
    )


def test_faster():
    assert verdict(FAST, 0.0156) == (
        "faster",
        "reaches the middle target in 0.56x of adamw's steps [0.50, 0.62], p = 0.016 after Holm",
    )


def test_slower():
    word, sentence = verdict(SLOW, 0.0004)
    assert word == "slower"
    assert sentence == "reaches the middle target in 1.40x of adamw's steps [1.20, 1.70], p < 0.001 after Holm"


def test_no_difference_names_what_would_have_been_found():
    word, sentence = verdict(SAME, 0.42)
    assert word == "no difference found"
    assert sentence.endswith("p = 0.42 after Holm; a ratio of 0.85 or below would have been found (80 % power)")


@pytest.mark.parametrize(("effect", "named"), [(0.4, "0.40"), (None, "no effect of any size")])
def test_a_blunt_race_is_too_noisy(effect, named):
    word, sentence = verdict(SAME, 0.42, smallest_effect=effect)
    assert word == "too noisy"
    assert named in sentence
    assert "more seeds" in sentence


def test_a_clear_pair_is_believed_whatever_the_baseline_does_on_other_seeds():
    assert verdict(summary(0.95, 0.93, 0.97), 0.01)[0] == "faster"
    assert inside(0.95, FLOOR)
    assert not inside(0.93, FLOOR)


def test_the_interval_of_the_a_a_arm_always_holds_one():
    shifted = summary(0.8, 0.75, 0.85)
    assert [inside(ratio, shifted) for ratio in (0.95, 0.7, 1.1, None)] == [True, False, False, False]
    unknown = summary(None, 0.0, None, hits=0)
    assert inside(0.56, unknown)
    assert inside(None, unknown)


def test_a_contender_that_never_arrives_is_slower():
    word, sentence = verdict(summary(None, None, None, hits=0), 0.0078)
    assert word == "slower"
    assert sentence == (
        "does not reach the middle target in most seeds (0 of 8 seeds, adamw 8 of 8), p = 0.0078 after Holm"
    )


@pytest.mark.parametrize(("hits", "baseline_hits"), [(8, 4), (8, 0), (7, 2)])
def test_a_baseline_that_misses_is_said_and_no_ratio_is_printed(hits, baseline_hits):
    word, sentence = verdict(summary(0.0, 0.0, 0.9, hits=hits), 0.0078, baseline_hits=baseline_hits)
    assert word == "faster"
    counts = f"{hits} of 8 seeds, adamw {baseline_hits} of 8"
    assert sentence == f"reaches the middle target where adamw misses it ({counts}), p = 0.0078 after Holm"


def test_an_interval_that_reaches_to_where_only_one_side_arrives_says_so():
    _, sentence = verdict(summary(0.6, 0.0, 0.9, hits=8), 0.0078, baseline_hits=6)
    assert "0.60x of adamw's steps [only it, 0.90]" in sentence
    _, sentence = verdict(summary(0.6, 0.0, None, hits=7), 0.0078, baseline_hits=6)
    assert "[only it, never]" in sentence


def test_a_very_small_ratio_keeps_its_digits():
    assert "in 0.0042x of adamw's steps [0.0031, 0.0052]" in verdict(summary(0.0042, 0.0031, 0.0052), 0.01)[1]


def test_misses_make_it_a_median():
    word, sentence = verdict(summary(0.6, 0.5, None, hits=7), 0.07)
    assert word == "no difference found"
    assert "[0.50, never]" in sentence
    assert "a median, since some runs miss: 7 of 8 seeds, adamw 8 of 8" in sentence


def test_a_target_out_of_reach_of_both_means_too_small_a_budget():
    word, sentence = verdict(summary(0.5, 0.4, 0.6, hits=4), 0.01, baseline_hits=4)
    assert word == "too noisy"
    assert "budget is too small" in sentence
    assert verdict(summary(0.5, 0.4, 0.6, hits=8), 0.01, baseline_hits=0)[0] == "faster"


def test_a_baseline_on_an_edge_leaves_everything_open():
    for measured, p in ((FAST, 0.01), (SLOW, 0.01), (SAME, 0.9)):
        word, sentence = verdict(measured, p, baseline_on_edge={"lr": "high"})
        assert word == "edge"
        assert "the best lr is the highest tried for the baseline adamw" in sentence
        assert "above it for lr" in sentence


def test_a_contender_on_an_edge_keeps_only_faster():
    edge = {"lr": "low", "eps": "high"}
    assert verdict(FAST, 0.01, on_edge=edge)[0] == "faster"
    assert "more may be gained" in verdict(FAST, 0.01, on_edge=edge)[1]
    for measured, p in ((SLOW, 0.01), (SAME, 0.9)):
        word, sentence = verdict(measured, p, on_edge=edge)
        assert word == "edge"
        assert "the best lr is the lowest and eps the highest tried" in sentence
        assert "below it for lr and above it for eps" in sentence


bounds = st.one_of(st.none(), st.floats(0, 1000))
sides = st.dictionaries(st.sampled_from(["lr", "eps"]), st.sampled_from(["low", "high"]))
summaries = st.builds(summary, bounds, bounds, bounds, st.integers(0, 8))


@given(
    summaries,
    st.floats(1e-6, 1),
    st.integers(0, 8),
    st.one_of(st.none(), st.floats(0.001, 1)),
    sides,
    sides,
)
def test_the_vocabulary_is_closed_and_a_win_is_never_insignificant(
    measured, p, baseline_hits, effect, edge, baseline_edge
):
    word, sentence = verdict(
        measured,
        p,
        baseline_hits=baseline_hits,
        smallest_effect=effect,
        on_edge=edge,
        baseline_on_edge=baseline_edge,
    )
    assert word in {"faster", "slower", "no difference found", "too noisy", "edge"}
    assert "None" not in sentence
    assert "\n" not in sentence
    if word == "faster":
        assert p <= 0.05
        assert measured["ratio"] < 1
    if word == "slower":
        assert p <= 0.05
        assert measured["ratio"] is None or measured["ratio"] > 1


def final(difference, low, high, values=(1.0,) * 8):
    return {
        "mean": 1.0,
        "sd": 0.1,
        "values": list(values),
        "difference": difference,
        "low": low,
        "high": high,
        "p": 0.01,
    }


def told(summary, p, **options):
    return judge_final(
        summary,
        p,
        **{"metric": "loss", "baseline": "adamw", "baseline_diverged": 0, "smallest_difference": 0.02, **options},
    )


def test_a_final_value_is_better_or_worse_in_the_direction_of_the_metric():
    below = final(-0.0123, -0.02, -0.004)
    assert told(below, 0.008) == (
        "better",
        "ends 0.0123 below adamw in loss at equal budget [-0.02, -0.004], p = 0.008 after Holm",
    )
    assert told(below, 0.008, higher_is_better=True)[0] == "worse"
    assert told(final(0.0123, 0.004, 0.02), 0.0001)[1].startswith("ends 0.0123 above adamw in loss")


def test_a_final_value_without_a_difference_names_the_smallest_that_would_have_been_found():
    word, sentence = told(final(0.001, -0.01, 0.012), 0.8)
    assert word == "no difference found"
    assert sentence.endswith("p = 0.8 after Holm; 0.02 or more would have been found (80 % power)")
    assert told(final(0.001, None, 0.012), 0.8, smallest_difference=None)[0] == "too noisy"
    assert "ends level with adamw in loss at equal budget [+0, +0]" in told(final(0.0, 0.0, 0.0), 1.0)[1]


def test_runs_that_diverge_are_the_worst_final_values():
    lost = final(None, None, None, [None] * 7 + [1.0])
    assert told(lost, 0.008)[0] == "worse"
    assert told(lost, 0.008)[1] == "diverges in most seeds (7 of 8 seeds, adamw 0 of 8), p = 0.008 after Holm"
    kept = final(None, None, None)
    assert told(kept, 0.008, baseline_diverged=7)[0] == "better"
    assert told(kept, 0.008, baseline_diverged=7)[1].startswith("adamw diverges in most seeds (0 of 8 seeds, adamw 7")
    assert told(lost, 0.3, baseline_diverged=6)[0] == "too noisy"
    some = told(final(0.1, 0.01, None, [None, *[1.0] * 7]), 0.03)
    assert "[+0.01, unbounded]" in some[1]
    assert "a median, since some runs diverge: 1 of 8 seeds" in some[1]
