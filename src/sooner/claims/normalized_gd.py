"""Normalized descent with momentum does at least as well as SGD with momentum."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import ON_DIGITS, ON_TEXT, text_regime

OURS = "normalized_gd(momentum=0.9)"

CLAIM = Claim(
    part="normalized_gd",
    paper="",
    headline="With momentum, normalized steps need no large batches and match tuned methods on BERT and ResNet-50.",
    source="Cutkosky and Mehta, 2020, arXiv 2002.03305, abstract",
    experiment=(
        "A character GPT, with batches of 8 windows, and a convolutional network on digits: steps to the loss of the "
        "tuned SGD with momentum, with momentum 0.9 for both."
    ),
    baseline="SGD with momentum 0.9, tuned with as many trials.",
    experiments={
        "text": Race(f"sgd; {OURS}", "charlm", steps=1000),
        "digits": Race(f"sgd; {OURS}", "digits", steps=400),
    },
    criteria=[
        Criterion(
            "on text at most 1.05x of SGD's steps to the middle target",
            lambda f: f.steps_ratio("text", OURS),
            at_most=1.05,
        ),
        Criterion(
            "on digits at most 1.05x of SGD's steps to the middle target",
            lambda f: f.steps_ratio("digits", OURS),
            at_most=1.05,
        ),
        Criterion(
            "on text sooner than SGD: at most 0.85x of its steps",
            lambda f: f.steps_ratio("text", OURS),
            at_most=0.85,
            gain=True,
        ),
    ],
    regime=text_regime(
        "BERT with large batches and ResNet-50 on ImageNet, warm-up and decay",
        "momentum and small batches, of which the theory speaks; constant rates",
        optimizer="SGD with momentum",
    ),
    known=(*ON_DIGITS, *ON_TEXT),
    minutes=7,
    limits="Constant learning rates; ours normalises each gradient before the average, as the paper's appendix allows.",
)
