"""SGD with momentum ends at least as well as Adam on a convolutional network."""

from sooner.claims._claim import Claim, Criterion, Race

CLAIM = Claim(
    part="sgd",
    paper="",
    headline="On image classification SGD with momentum generalises at least as well as Adam, often better.",
    source="Wilson et al., 2017, arXiv 1705.08292",
    experiment=(
        "A convolutional network with batch normalization learns handwritten digits with AdamW and with SGD with "
        "momentum: loss on the test images after the same number of steps, and steps to AdamW's target."
    ),
    baseline="AdamW, its learning rate tuned with as many trials as SGD's.",
    experiments={"digits": Race("adamw; sgd", "digits", steps=200), "text": Race("adamw; sgd", "charlm", steps=300)},
    criteria=[
        Criterion(
            "test loss after 200 steps at most 1.05x of AdamW's",
            lambda f: f.final_ratio("digits", "sgd"),
            at_most=1.05,
        ),
        Criterion(
            "test loss after 200 steps lower than AdamW's",
            lambda f: f.final_ratio("digits", "sgd"),
            at_most=1.0,
            gain=True,
        ),
        Criterion(
            "steps to the middle target at most 1.1x of AdamW's",
            lambda f: f.steps_ratio("digits", "sgd"),
            at_most=1.1,
        ),
    ],
    trend={
        "digits, convolutional network": lambda f: f.steps_ratio("digits", "sgd"),
        "charlm, Transformer": lambda f: f.steps_ratio("text", "sgd"),
    },
    minutes=4,
    limits="1,797 images and 14,458 parameters; the paper trains large networks for hundreds of passes.",
)
