"""What a training loop lets parts ask: the loss of the step about to be taken, again and with the graph.

A loss returns a mean, 0-d; or ``(sum, count)``: what it has added up, 0-d, and how many tokens (or samples, or how much
weight) that is of. Then every token counts alike in a step, whichever micro-batch and worker it is in:

    gradient = sum over micro-batches and workers of d sum_i  /  sum over micro-batches and workers of count_i

With means every micro-batch counts alike, and every worker, however much is in it.
"""

from sooner.objective._objective import FROM_TASKS, PROVIDED, Averaging, Objective, evaluating
from sooner.objective.counting import Count, Found, exact, mean, mean_of, measured, positive

__all__ = [
    "FROM_TASKS",
    "PROVIDED",
    "Averaging",
    "Count",
    "Found",
    "Objective",
    "evaluating",
    "exact",
    "mean",
    "mean_of",
    "measured",
    "positive",
]
