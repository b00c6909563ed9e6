"""More steps lower the loss, at every budget decayed to its own end."""

from sooner.lab._criteria import changed
from sooner.lab._truth import Setting, Truth
from sooner.lab._variants import Arm, arms


def _on(workload: str, recipe: str, rates: tuple[float, ...], steps: int, at_most: float, seconds: float) -> Setting:
    made = [Arm(workload, "as it is", recipe, rates, budget) for budget in (steps, 4 * steps)]
    return Setting({"runs": arms(made)}, [changed(4 * steps, steps, at_most, by="steps")], seconds=seconds)


TRUTH = Truth(
    name="more_steps",
    says="Four times as many steps end lower.",
    source="Kaplan et al., 2020, arXiv 2001.08361, section 3.3",
    expected="a power law in the steps above the loss that no training goes below",
    on={
        "charlm": _on("charlm", "adamw(lr={rate}) + cosine", (0.001, 0.003, 0.01), 200, 0.95, 140),
        "zipf": _on("zipf", "adamw(lr={rate}) + cosine", (0.001, 0.003, 0.01), 75, 0.5, 60),
        "quadratic": _on("quadratic", "sgd(lr={rate}, momentum=0.0) + linear", (0.1, 0.3, 1.0), 250, 0.5, 20),
        "shapes": _on("shapes", "sgd(lr={rate}) + cosine", (0.03, 0.1, 0.3), 120, 0.8, 80),
        "digits": _on("digits", "sgd(lr={rate}) + cosine", (0.03, 0.1, 0.3), 50, 0.7, 30),
    },
)
