"""Seeds that a wanted effect needs: the chance that is promised is the chance that the real tests have."""

import math

import numpy as np
import pytest
from scipy import stats

from sooner.race import statistics
from sooner.race.statistics.planning import Looking, Spread, power, seeds_for, spread_of_log_steps, visible

RACES = 300
CERTAIN = 10**6


def raced(spread, ratio, seeds, generator):
    """Paired log ratios of one race, made run by run as steps, as a race hands them to the test."""
    one = spread.sd / math.sqrt(2 * (1 - spread.shared))
    common, new, base = generator.standard_normal((3, seeds))
    sides = [
        one * (math.sqrt(spread.shared) * common + math.sqrt(1 - spread.shared) * own) + shift
        for own, shift in ((new, math.log(ratio)), (base, 0.0))
    ]
    steps = [[None if late > spread.margin else math.exp(late) for late in side] for side in sides]
    return statistics.paired_log_ratios(*steps)


def chance(spread, ratio, seeds, level, generator, every_seed=False):
    test = statistics.betting_p if every_seed else statistics.sign_flip
    pairs = [raced(spread, ratio, seeds, generator) for _ in range(RACES)]
    return np.mean([test(x) <= level and statistics.center(x) < 0 for x in pairs])


@pytest.mark.parametrize(
    ("spread", "ratio", "level", "every_seed"),
    [
        (Spread(0.15, CERTAIN), 0.85, 0.05, False),
        (Spread(0.1, CERTAIN), 0.85, 0.05, False),
        (Spread(0.15, CERTAIN), 0.8, 0.05 / 3, False),  # three contenders
        (Spread(0.15, CERTAIN, margin=0.25), 0.8, 0.05, False),  # a few runs miss
        (Spread(0.12, CERTAIN, shared=0.6, margin=0.25), 0.85, 0.05, False),
        (Spread(0.15, CERTAIN), 0.85, 0.05, True),
    ],
)
def test_the_promised_power_is_reached_and_not_wasted(spread, ratio, level, every_seed):
    generator = np.random.default_rng(1)
    seeds = seeds_for(spread, ratio, 0.9, level, every_seed)
    found = chance(spread, ratio, seeds, level, generator, every_seed)
    low, high = stats.binom.ppf([0.001, 0.999], RACES, 0.9) / RACES
    assert low - 0.02 <= found <= max(high, 0.97)
    looks = tuple(range(6, seeds)) if every_seed else (seeds - 1,)
    assert seeds == 6 or power(spread, ratio, Looking(looks, level, every_seed))[0] < 0.9


def test_a_pilot_that_knows_little_asks_for_more_seeds_and_then_keeps_its_promise():
    """On average over pilots of ten runs, races of as many seeds as each of them asks for find the effect in 90 %.

    A few pilots only; `benchmarks/verdict_rules.py plan` draws more.
    """
    generator = np.random.default_rng(2)
    truth, ratio, found = Spread(0.15, CERTAIN), 0.8, []
    for _ in range(8):
        sd = math.sqrt(2) * np.std(generator.normal(0, 0.15 / math.sqrt(2), 10), ddof=1)
        seeds = seeds_for(Spread(sd, 9), ratio, 0.9, 0.05)
        found.append(power(truth, ratio, Looking((seeds,), 0.05))[0])
    assert np.mean(found) == pytest.approx(0.9, abs=0.08)
    assert seeds_for(Spread(0.15, 9), ratio, 0.9, 0.05) > seeds_for(truth, ratio, 0.9, 0.05)


def test_declared_looks_find_as_often_as_the_real_race_does():
    generator = np.random.default_rng(3)
    spread, ratio = Spread(0.15, CERTAIN), 0.85
    pairs = [raced(spread, ratio, 16, generator) for _ in range(RACES)]
    early = [statistics.sign_flip(x[:8]) <= 0.025 for x in pairs]
    found = [one or statistics.sign_flip(x) <= 0.025 for one, x in zip(early, pairs, strict=True)]
    promised, used = power(spread, ratio, Looking((8, 16), 0.025))
    assert np.mean(found) == pytest.approx(promised, abs=0.06)
    assert np.mean([8 if one else 16 for one in early]) == pytest.approx(used, abs=0.8)


def test_nothing_is_found_where_there_is_nothing():
    for spread in (Spread(0.15, CERTAIN), Spread(0.15, 9), Spread(0.15, 9, margin=0.2)):
        for looking in (Looking((8,), 0.05), Looking((8, 16), 0.025), Looking(tuple(range(6, 33)), 0.05, True)):
            assert power(spread, 1.0, looking)[0] <= 0.035  # one of the two sides of 5 %


def test_what_is_visible_agrees_with_what_is_needed_and_with_the_result():
    spread = Spread(0.15, CERTAIN)
    seen = visible(spread, 0.9, Looking((8,), 0.05))
    assert seeds_for(spread, seen * 0.99, 0.9, 0.05) <= 8 < seeds_for(spread, seen * 1.03, 0.9, 0.05)
    assert visible(spread, 0.8, Looking((8,), 0.05)) == pytest.approx(statistics.smallest_effect(0.15, 8), abs=0.02)
    assert visible(spread, 0.9, Looking((6,), 0.01)) is None  # six seeds can't reach that level
    assert seeds_for(Spread(3.0, CERTAIN), 0.99, 0.9, 0.05) is None


def test_the_spread_of_log_steps_looks_through_misses():
    generator = np.random.default_rng(4)
    whole = generator.normal(5.0, 0.2, 400)
    most = 5.15
    arrived = whole[whole <= most]
    mean, sd = spread_of_log_steps(arrived, int((whole > most).sum()), most)
    assert (mean, sd) == (pytest.approx(5.0, abs=0.03), pytest.approx(0.2, rel=0.1))
    assert np.std(arrived) < 0.8 * sd  # what one would believe who left the misses out
    assert spread_of_log_steps([1.0, 2.0, 3.0], 0, 9.0) == (pytest.approx(2.0), pytest.approx(1.0))
    assert spread_of_log_steps([1.0, 1.0], 1, 2.0)[1] == 0
