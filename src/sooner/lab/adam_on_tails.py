"""Adam leaves SGD behind where tokens have heavy tails, and not on images."""

from sooner.lab._criteria import not_sooner_than, sooner_than
from sooner.lab._races import IMAGES, OUTLINES, TAIL, TEXT, WORDS
from sooner.lab._truth import Setting, Truth

TRUTH = Truth(
    name="adam_on_tails",
    says="Adam leaves SGD with momentum far behind on heavy-tailed tokens, and does not on images.",
    source="Kunstner et al., 2024, arXiv 2402.19449, abstract",
    expected="several times fewer steps on tokens; about as many on images",
    on={
        "charlm": Setting({"race": TEXT}, [sooner_than("race", "adamw", "sgd", 0.7)]),
        "zipf": Setting({"race": TAIL}, [sooner_than("race", "adamw", "sgd", 0.5)]),
        "grammar": Setting({"race": WORDS}, [sooner_than("race", "adamw", "sgd", 0.7)]),
        "shapes": Setting({"race": OUTLINES}, [not_sooner_than("race", "adamw", "sgd", 0.8)]),
        "digits": Setting({"race": IMAGES}, [not_sooner_than("race", "adamw", "sgd", 0.8)]),
    },
)
