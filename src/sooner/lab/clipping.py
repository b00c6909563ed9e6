"""Clipping the norm of gradients saves runs that would be lost to spikes."""

from sooner.lab._criteria import changed
from sooner.lab._truth import Setting, Truth
from sooner.lab._variants import Arm, arms

_PLAIN = "sgd(lr={rate})"
_CLIPPED = "sgd(lr={rate}) + clip_norm(max_norm=1.0)"


def _on(workload: str, change: str, rate: float, steps: int, seconds: float) -> Setting:
    made = [Arm(workload, change, recipe, (rate,), steps) for recipe in (_PLAIN, _CLIPPED)]
    return Setting({"runs": arms(made)}, [changed(_CLIPPED, _PLAIN, 0.9, by="recipe")], seconds=seconds)


TRUTH = Truth(
    name="clipping",
    says="At a rate at which gradients explode now and then, clipping their norm saves the run.",
    source="Pascanu et al., 2013, arXiv 1211.5063, section 3.2; Zhang et al., 2020, arXiv 1905.11881, abstract",
    expected="runs that are lost without it end well; the sources give no ratio",
    on={
        "zipf": _on("zipf", "as it is", 0.3, 200, 30),
        "charlm": _on("charlm", "as it is", 1.0, 300, 60),
        "digits": _on("digits", "without normalization", 1.0, 200, 25),
    },
)
