"""Forecast the loss that has not been paid for: laws fitted to small or unfinished runs, with bands and a check.

from sooner.forecast import read, find, fit, check, table

runs = read(["runs.csv"])
fitted = fit(find("chinchilla"), runs)
fitted.predict(table(parameters=7e9, tokens=1.4e11))
"""

from sooner.forecast.check import Check, check, choose
from sooner.forecast.curve import Curve, forecast_curve
from sooner.forecast.decide.when import When, when
from sooner.forecast.fit import fit
from sooner.forecast.fitted import Fit, Prediction
from sooner.forecast.formula import Parameter
from sooner.forecast.gain import gain
from sooner.forecast.gained import Gain
from sooner.forecast.law import Law
from sooner.forecast.laws import find, names
from sooner.forecast.live import Live
from sooner.forecast.merge import Merged, Said, merge
from sooner.forecast.read import read
from sooner.forecast.schedules import Schedule, parse
from sooner.forecast.table import Table, join, table

__all__ = [
    "Check",
    "Curve",
    "Fit",
    "Gain",
    "Law",
    "Live",
    "Merged",
    "Parameter",
    "Prediction",
    "Said",
    "Schedule",
    "Table",
    "When",
    "check",
    "choose",
    "find",
    "fit",
    "forecast_curve",
    "gain",
    "join",
    "merge",
    "names",
    "parse",
    "read",
    "table",
    "when",
]
