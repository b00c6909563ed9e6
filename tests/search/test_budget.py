"""How much a search does in the time it is given."""

import pytest

from sooner.error import SoonerError
from sooner.search import seconds_of
from sooner.search.budget import EFFORTS, Field, effort


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("90min", 5400), ("1h30m", 5400), ("1h 30m", 5400), ("45s", 45), ("0.5d", 43200)],
)
def test_lengths_of_time_are_read(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 fortnights", "1h-30m", "0h", "-1h", "two hours"])
def test_what_is_no_length_of_time_gets_one_sentence(text):
    with pytest.raises(SoonerError, match="--budget"):
        seconds_of(text)


def test_more_time_is_spent_on_more_and_never_overspent():
    before = 0
    for budget in (300, 500, 1000, 3000, 10_000):
        spent = effort(budget, 1.0, 1, Field(5))
        runs = spent.runs(Field(5))
        assert before <= runs <= budget
        before = runs
    assert spent is EFFORTS[0]
    assert effort(300, 1.0, 2, Field(5)).runs(Field(5)) >= effort(300, 1.0, 1, Field(5)).runs(Field(5))


def test_too_little_time_is_refused_with_what_would_do():
    with pytest.raises(SoonerError, match=r"a run takes 60 s here, so the least search takes about \d+ min"):
        effort(600, 60.0, 1, Field(5))


def test_what_plans_for_a_fixed_end_costs_every_length_of_the_ladder():
    least = EFFORTS[-1]
    assert least.runs(Field(5)) < least.runs(Field(4, 1)) < least.runs(Field(3, 2)) < least.runs(Field(3, 2, True))
