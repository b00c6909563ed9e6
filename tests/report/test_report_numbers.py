import pytest

from sooner.race.statistics import ratio_summary
from sooner.report import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.003, "0.003"),
        (0.0031622776, "0.00316"),
        (1000.0, "1000"),
        (3e-5, "3e-05"),
        (1.5e7, "1.5e+07"),
        (0.0, "0"),
        (-0.0405, "-0.0405"),
        (float("inf"), "inf"),
        (None, "–"),
        (12, "12"),
        (True, "True"),
        ("nesterov", "nesterov"),
        ([0.9, 0.999], "(0.9, 0.999)"),
    ],
)
def test_number(value, text):
    assert numbers.number(value) == text


@pytest.mark.parametrize(
    ("measured", "text"),
    [
        ({"ratio": 0.56, "low": 0.5, "high": 0.62}, "0.56x [0.50, 0.62]"),
        ({"ratio": 0.0456, "low": 0.02, "high": 12.34}, "0.046x [0.02, 12.3]"),
        ({"ratio": 1.2, "low": 0.9, "high": None}, "1.20x [0.90, never]"),
        ({"ratio": None, "low": 1.3, "high": None}, "never [1.30, never]"),
        ({"ratio": None, "low": None, "high": None}, "never"),
        ({"ratio": None, "low": 0.0, "high": None}, "unknown"),
        ({"ratio": 0.7, "low": 0.0, "high": 0.9}, "0.70x [only it, 0.90]"),
        ({"ratio": 0.7, "low": 0.0, "high": None}, "0.70x [only it, never]"),
        ({"ratio": 0.0, "low": 0.0, "high": 0.5}, "only it arrives"),
    ],
)
def test_ratio_interval(measured, text):
    assert numbers.ratio_interval(measured) == text


NEVER = [None] * 8
HALF = [100.0] * 4 + [None] * 4
ALL = [100.0] * 8


@pytest.mark.parametrize(
    ("ours", "theirs", "text"),
    [
        (ALL, ALL, "1.00x [1.00, 1.00]"),
        (ALL, HALF, "only muon arrives (8 of 8, baseline 4 of 8)"),
        (ALL, NEVER, "only muon arrives (8 of 8, baseline 0 of 8)"),
        ([50.0] * 8, [100.0] * 5 + [None] * 3, "0.50x [only it, 0.50]"),
        (HALF, ALL, "too few arrive (4 of 8, baseline 8 of 8)"),
        (NEVER, ALL, "never"),
        ([None] * 7 + [100.0], NEVER, "only muon arrives (1 of 8, baseline 0 of 8)"),
        ([150.0] * 5 + [None] * 3, ALL, "1.50x [1.50, never]"),
        (HALF, HALF, "1.00x [1.00, 1.00]"),
        (HALF, HALF[::-1], "1.00x [only it, never]"),
        ([100.0] * 3 + [None] * 5, [None] * 3 + [100.0] * 5, "too few arrive (3 of 8, baseline 5 of 8)"),
        (NEVER, NEVER, "neither arrives (0 of 8, baseline 0 of 8)"),
    ],
)
def test_who_misses_the_target_is_said_in_words(ours, theirs, text):
    measured = ratio_summary(ours, theirs)
    hits = sum(one is not None for one in theirs)
    assert numbers.ratio_interval(measured, "muon", hits) == text


@pytest.mark.parametrize(
    ("mean", "deviation", "text"),
    [
        (1.81234, 0.00417, "1.8123 ± 0.0042"),
        (1.81234, 0.417, "1.81 ± 0.42"),
        (181.234, 41.7, "181 ± 42"),
        (1.81234, 0.0, "1.812 ± 0"),
        (1.81234, None, "1.812"),
        (None, None, "–"),
    ],
)
def test_plus_minus(mean, deviation, text):
    assert numbers.plus_minus(mean, deviation) == text


@pytest.mark.parametrize(("p", "text"), [(0.0078125, "0.0078"), (0.0001, "<0.001"), (1.0, "1"), (None, "–")])
def test_chance(p, text):
    assert numbers.chance(p) == text


@pytest.mark.parametrize(("mebibytes", "text"), [(312.4, "312 MiB"), (2048.0, "2048 MiB"), (20480.0, "20 GiB")])
def test_size(mebibytes, text):
    assert numbers.size(mebibytes) == text


def test_dates_and_durations():
    assert numbers.date("2026-08-05T14:03:00+00:00") == "2026-08-05 14:03 UTC"
    assert numbers.date("2026-08-05T14:03:00") == "2026-08-05 14:03"
    assert numbers.date("yesterday") == "yesterday"
    assert numbers.duration("2026-08-05T14:03:00+00:00", "2026-08-05T17:15:30+00:00") == "3 h 12 min"
    assert numbers.duration("2026-08-05T14:03:00", "2026-08-05T14:05:07") == "2 min 7 s"
    assert numbers.duration("2026-08-05T14:03:00", "2026-08-05T14:03:07+00:00") == "–"
    assert numbers.duration(None, "") == "–"


def test_settings_and_control_characters():
    assert numbers.settings({"lr": 0.003, "betas": [0.9, 0.95]}) == "lr=0.003, betas=(0.9, 0.95)"
    assert numbers.settings({}) == "–"
    assert numbers.plain("red\x1b[31m\nline\u202eend") == "red [31m line end"
