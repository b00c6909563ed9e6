"""Oracle: on the noisy bowl the expected loss of plain SGD is known in closed form."""

from collections.abc import Callable

from sooner.lab._truth import Criterion, Findings, Measured, Measurement, Setting, Truth
from sooner.loop import train
from sooner.workloads import find, quadratic

_RATES, _STEPS, _SEEDS = (0.03, 0.1, 0.3, 1.0), 300, 48


def _end(rate: float, seed: int, steps: int) -> dict[str, float]:
    """Return the loss at the end over its expectation."""
    run = train(find("quadratic"), f"sgd(lr={rate}, momentum=0.0)", seed, steps)
    return {"over expected": run.values[-1] / quadratic.expected_loss(rate, steps)}


def _outside(rate: float) -> Callable[[Findings], Measured]:
    def measured(f: Findings) -> Measured:
        found = f.mean("ends", "over expected", rate=rate)
        if found.low is None or found.high is None:
            return found
        return Measured(max(found.low, 1 / found.high, 1.0))

    return measured


TRUTH = Truth(
    name="noise_floor",
    says="The mean loss of plain SGD on the noisy bowl is the one that its recursion gives.",
    source="by construction: `quadratic.expected_loss`; Zhang et al., 2019, arXiv 1907.04164, section 3",
    expected="1x of the expectation at every rate",
    oracle=True,
    on={
        "quadratic": Setting(
            {
                "ends": Measurement(
                    _end,
                    [{"rate": r, "seed": s, "steps": _STEPS} for r in _RATES for s in range(30_000, 30_000 + _SEEDS)],
                    [{"rate": r, "seed": s, "steps": 3} for r in _RATES for s in (1, 2)],
                )
            },
            [
                Criterion(
                    f"at the rate {rate:g} the interval over {_SEEDS} seeds holds the expectation, to within 3 %",
                    _outside(rate),
                    at_most=1.03,
                )
                for rate in _RATES
            ],
            seconds=50,
        )
    },
)
