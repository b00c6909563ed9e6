"""Executors run a chain of rules over an optimizer's parameters. Today: eager, the reference that always works."""

from sooner.execute.cohort import Cohort, Work, state_dtype
from sooner.execute.eager import run_eager

__all__ = ["Cohort", "Work", "run_eager", "state_dtype"]
