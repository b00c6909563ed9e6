"""The plots of the report, as plain Plotly figures (dictionaries of data and layout).

Colours are written as tokens such as "@c3" or "@ink/0.2"; the page's script replaces them by the colours of the light
or the dark scheme, which live in the page's style sheet and nowhere else.
"""

from sooner.report.figures.base import Figure
from sooner.report.figures.curves import learning_curves
from sooner.report.figures.ratios import cost_per_step, steps_ratios
from sooner.report.figures.seeds import final_metric, paired_steps
from sooner.report.figures.tuning import expected_best, sensitivity
from sooner.report.words import Result

__all__ = ["Figure", "build"]


def build(result: Result) -> dict[str, Figure]:
    """Return the figures that `result` has data for, by name."""
    drawn = {
        "ratios": steps_ratios(result),
        "curves": learning_curves(result),
        "paired": paired_steps(result),
        "final": final_metric(result),
        "sensitivity": sensitivity(result),
        "best-of-k": expected_best(result),
        "cost": cost_per_step(result),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}
