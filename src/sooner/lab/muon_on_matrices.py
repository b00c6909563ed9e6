"""Muon beats AdamW where hidden matrices are what learns."""

from sooner.lab._criteria import sooner_than
from sooner.lab._races import IMAGES, OUTLINES, TEXT, WORDS
from sooner.lab._truth import Setting, Truth

TRUTH = Truth(
    name="muon_on_matrices",
    says="Orthogonalized updates of hidden matrices reach AdamW's loss in fewer steps.",
    source="Jordan et al., 2024, 'Muon: an optimizer for hidden layers in neural networks'; Liu et al., 2025, "
    "arXiv 2502.16982, abstract (0.52x of the compute)",
    expected="0.52x to 0.74x of the steps",
    on={
        "charlm": Setting({"race": TEXT}, [sooner_than("race", "muon", "adamw", 0.85, "0.74x")]),
        "grammar": Setting({"race": WORDS}, [sooner_than("race", "muon", "adamw", 0.9, "0.74x")]),
        "shapes": Setting({"race": OUTLINES}, [sooner_than("race", "muon", "adamw", 0.9, "0.74x")]),
        "digits": Setting({"race": IMAGES}, [sooner_than("race", "muon", "adamw", 0.9, "0.74x")]),
    },
)
