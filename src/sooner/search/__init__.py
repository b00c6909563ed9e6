"""A search for the recipe of a task: single changes, combinations by design, a choice on fresh seeds, a confirmation.

On the command line it is ``sooner find``.
"""

from sooner.search.budget import Effort, seconds_of
from sooner.search.candidates import AMONG, Choice, choices, with_choices
from sooner.search.ground import OnTask
from sooner.search.measure import Measured
from sooner.search.probe import Finding, ordered, probe
from sooner.search.search import Outcome, Search

__all__ = [
    "AMONG",
    "Choice",
    "Effort",
    "Finding",
    "Measured",
    "OnTask",
    "Outcome",
    "Search",
    "choices",
    "ordered",
    "probe",
    "seconds_of",
    "with_choices",
]
