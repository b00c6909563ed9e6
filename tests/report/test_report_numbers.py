import pytest

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
        ({"ratio": 0.0, "low": 0.0, "high": 0.5}, "0x [0, 0.50]"),
    ],
)
def test_ratio_interval(measured, text):
    assert numbers.ratio_interval(measured) == text


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
