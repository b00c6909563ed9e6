"""No communication: every worker trains on its own, and only what is evaluated is the average of their weights.

    theta_bar = (1 / n) sum_i theta_i,   after the last step

Use it when a race needs its floor: whoever can't beat it gains nothing from communicating.

Leave it when there is a network at all: workers go apart, and the average of far-apart networks is no good network.

It costs nothing on the wire; no state; no pass.

Textbook parameter averaging of independent runs; for linear models Zinkevich et al., 2010, "Parallelized stochastic
gradient descent".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sooner.communication._outer import Outer


@dataclass(frozen=True)
class Silent(Outer):
    """Never takes an outer step."""

    every: int = field(default=0, init=False)

    def due(self, step: int) -> bool:
        """Never."""
        return False
