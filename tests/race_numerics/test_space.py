import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sooner.error import SoonerError
from sooner.space import Choice, Log, Uniform

positive = st.floats(1e-8, 1e6)
units = st.floats(0, 1)


@given(positive, st.floats(1.01, 1e6), units)
def test_log_stays_in_its_range_and_inverts(low, factor, u):
    knob = Log(low, low * factor)
    value = knob.at(u)
    assert knob.low <= value <= knob.high
    # four significant digits move the position by at most their relative size
    assert knob.unit(value) == pytest.approx(u, abs=6e-4 / math.log(factor))


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), units)
def test_uniform_stays_in_its_range_and_inverts(low, width, u):
    knob = Uniform(low, low + width)
    value = knob.at(u)
    assert knob.low <= value <= knob.high
    assert knob.unit(value) == pytest.approx(u, abs=6e-3)


def test_log_ends_and_middle():
    knob = Log(1e-4, 1e-2)
    assert [knob.at(u) for u in (0, 0.5, 1)] == [1e-4, 1e-3, 1e-2]
    assert knob.at(1 / 3) == 0.0004642


def test_settings_print_in_few_digits():
    assert Uniform(0.8, 0.999).at(0.75) == 0.9492
    assert Log(3e-4, 0.1).at(0.7) == 0.0175


@pytest.mark.parametrize(
    ("knob", "side", "expected"),
    [
        (Log(1e-3, 1e-1), "high", Log(1e-3, 1.0)),
        (Log(1e-3, 1e-1), "low", Log(1e-4, 1e-1)),
        (Uniform(0.0, 1.0), "high", Uniform(0.0, 1.5)),
        (Uniform(0.0, 1.0), "low", Uniform(-0.5, 1.0)),
        (Choice("a", "b"), "high", Choice("a", "b")),
    ],
)
def test_widened_extends_one_side_by_half_the_width(knob, side, expected):
    assert knob.widened(side) == expected


@given(st.lists(st.integers(), min_size=1, max_size=7, unique=True), units)
def test_choice_gives_every_value_an_equal_share(values, u):
    knob = Choice(*values)
    assert knob.at(u) == values[min(int(u * len(values)), len(values) - 1)]
    assert [knob.at(knob.unit(value)) for value in values] == values


def test_choice_tells_true_from_one():
    knob = Choice(True, 1, None)
    assert knob.at(knob.unit(True)) is True
    assert knob.unit(1) == 0.5
    with pytest.raises(SoonerError, match="not among"):
        knob.unit(False)


def test_unit_shows_values_outside():
    assert Log(1e-3, 1e-1).unit(1.0) == pytest.approx(1.5)
    assert Uniform(0, 2).unit(-1) == -0.5


def test_describe_is_plain_json():
    described = [knob.describe() for knob in (Log(1e-4, 1.0), Uniform(0, 1), Choice(1, "b", None))]
    assert json.loads(json.dumps(described)) == [
        {"kind": "log", "low": 1e-4, "high": 1.0},
        {"kind": "uniform", "low": 0, "high": 1},
        {"kind": "choice", "values": [1, "b", None]},
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Log(0, 1), "above 0"),
        (lambda: Log(1, 1), "low < high"),
        (lambda: Log(1, 0.1), "low < high"),
        (lambda: Log(1, math.inf), "finite"),
        (lambda: Uniform(math.nan, 1), "finite"),
        (lambda: Uniform("0", 1), "finite"),
        (lambda: Uniform(True, 2), "finite"),
        (lambda: Choice(), "at least one"),
        (lambda: Choice(1, 2, 1), "once"),
        (lambda: Log(1, 2).at(1.5), "between 0 and 1"),
        (lambda: Log(1, 2).unit(0.0), "above 0"),
        (lambda: Uniform(1, 2).unit("x"), "no place"),
    ],
)
def test_bad_ranges_are_refused(make, message):
    with pytest.raises(SoonerError, match=message):
        make()


def test_space_needs_the_standard_library_only():
    code = "import sys, sooner.space; print(sorted({'torch', 'numpy', 'scipy'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
