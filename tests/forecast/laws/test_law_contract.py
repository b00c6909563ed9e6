"""What every law promises: it says what it is, it recovers itself, its bands hold, whatever the order of the rows."""

import numpy as np
import pytest
from law_equations import CASES

from sooner.error import SoonerError
from sooner.forecast.laws import classes, find
from sooner.forecast.table import Table

LAWS = classes()
IN_ONE_QUANTITY = ("broken_power", "generative", "hestness", "m1", "m3", "m4", "saturating")
every_case = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


@pytest.mark.parametrize("law", LAWS.values(), ids=list(LAWS))
def test_it_says_what_it_is(law):
    assert law.name == law.name.lower()
    assert law.title
    assert "=" in law.formula
    assert "arXiv" in law.source
    assert len({parameter.name for parameter in law.parameters}) == len(law.parameters)
    for parameter in law.parameters:
        assert parameter.unit
        assert parameter.low < parameter.high
        assert parameter.low > 0 or parameter.scale == "linear"
    assert law.floor is None or law.floor in [parameter.name for parameter in law.parameters]


@every_case
def test_it_is_the_equation_of_the_paper(case):
    for rows in (case.rows(), case.targets()):
        made = case.law.predict(np.array([case.truth]), case.law.prepare(rows))
        np.testing.assert_allclose(made[0], rows[case.law.target], rtol=1e-9)


@every_case
def test_parameter_sets_are_independent_rows(case):
    rows = case.rows()
    starts = case.law.starts(case.law.table(rows))
    assert starts.shape[1] == len(case.law.parameters)
    data = case.law.prepare(rows)
    with np.errstate(all="ignore"):
        together = case.law.predict(starts, data)
        alone = np.concatenate([case.law.predict(start[None], data) for start in starts])
    assert together.shape == (len(starts), len(rows))
    np.testing.assert_allclose(together, alone, rtol=1e-9)


@every_case
def test_starts_are_finite_and_within_bounds_where_it_matters(case):
    starts = case.law.starts(case.law.table(case.rows()))
    assert np.isfinite(starts).all()
    low, high = (np.array([getattr(one, end) for one in case.law.parameters]) for end in ("low", "high"))
    assert ((low <= starts) & (starts <= high)).all(axis=1).any()


@every_case
def test_it_recovers_itself_from_rows_without_noise(case):
    far = case.targets()
    fit = case.law.fit(case.rows(), draws=5)
    np.testing.assert_allclose(fit.at(far), far[case.law.target], rtol=1e-3)
    np.testing.assert_allclose(fit.values, case.truth, rtol=0.05)


@every_case
def test_bands_hold_the_truth_at_one_percent_noise(case):
    far, held = case.targets(), []
    for seed in range(5):
        band = case.law.fit(case.rows(0.01, seed), draws=60, seed=seed).predict(far)
        assert (band.low <= band.value).all()
        assert (band.value <= band.high).all()
        held.append(np.mean((band.low <= far[case.law.target]) & (far[case.law.target] <= band.high)))
    assert np.mean(held) >= 0.7


@every_case
def test_the_order_of_the_rows_is_nothing_to_it(case):
    rows, far = case.rows(0.01), case.targets()
    mixed = rows.where(np.random.default_rng(3).permutation(len(rows)))
    np.testing.assert_allclose(case.law.fit(mixed, draws=2).at(far), case.law.fit(rows, draws=2).at(far), rtol=1e-4)


@every_case
def test_it_refuses_a_table_without_its_columns(case):
    rows = case.rows()
    for name in (*case.law.needs, case.law.target):
        columns = {other: values for other, values in rows.columns.items() if other != name}
        with pytest.raises(SoonerError, match=f"'{name}' is missing"):
            case.law.fit(Table(columns))


@every_case
def test_it_refuses_what_can_not_be(case):
    rows = case.rows()
    for name in case.law.needs:
        with pytest.raises(SoonerError, match=name):
            case.law.fit(rows.plus(**{name: np.where(np.arange(len(rows)) == 1, 0.0, rows[name])}))


@pytest.mark.parametrize("name", IN_ONE_QUANTITY)
def test_the_quantity_and_the_target_are_the_callers_choice(name):
    case = CASES[name]
    (old,) = case.law.needs
    law = LAWS[name]("step", "error")
    fit = law.fit(Table({"step": case.rows()[old], "error": case.rows()["loss"]}), draws=2)
    np.testing.assert_allclose(fit.at(Table({"step": case.targets()[old]})), case.targets()["loss"], rtol=1e-3)
    assert find(name, "step").needs == ("step",)


def test_a_step_of_zero_has_no_logarithm():
    with pytest.raises(SoonerError, match="takes powers of step, which is 0"):
        LAWS["m1"]("step").fit(Table({"step": np.arange(5.0), "loss": np.ones(5)}))


def test_a_law_of_several_quantities_takes_none_of_choice():
    with pytest.raises(SoonerError, match="leave --over out"):
        find("loss_to_accuracy", "tokens")
