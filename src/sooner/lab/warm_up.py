"""A warm-up lets learning rates live that are too large to begin with."""

from sooner.lab._criteria import lower_than
from sooner.lab._races import HOT, TEXT, WARM
from sooner.lab._truth import Setting, Truth

TRUTH = Truth(
    name="warm_up",
    says="A warm-up lets a learning rate live that is too large to begin with.",
    source="Kalra and Barkeshli, 2024, arXiv 2406.09405, abstract; Goyal et al., 2017, arXiv 1706.02677, section 2.2",
    expected="clearly lower at a rate that spikes without it; the source gives no figure",
    on={"charlm": Setting({"race": TEXT}, [lower_than("race", WARM, HOT, 0.97)])},
)
