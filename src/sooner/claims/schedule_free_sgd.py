"""Schedule-Free SGD ends as low as SGD with momentum and a cosine, without knowing the length of training."""

from sooner.claims._claim import Claim, Criterion, Known, Race
from sooner.claims._regimes import ON_DIGITS, images_regime
from sooner.claims._shape import IMAGES_TO_THE_END, decay_shows

WARM = IMAGES_TO_THE_END // 20
OURS = f"schedule_free_sgd(warmup={WARM})"
POLYAK = f"schedule_free_sgd(warmup={WARM}, beta=0.0)"
"""Descent whose iterates are averaged, with gradients at the iterate itself."""
CONSTANT = f"sgd + constant(warmup={WARM})"

CLAIM = Claim(
    part="schedule_free_sgd",
    paper="",
    headline="Without a schedule as good as schedules that know the length of training, or better.",
    source="Defazio et al., 2024, arXiv 2405.15682, abstract and section 4",
    experiment=(
        "A convolutional network learns digits with SGD, momentum and cosine decay, and with Schedule-Free SGD: the "
        "length of training that reaches the cosine's loss, and the loss at equal length. Beside them SGD at a "
        "constant rate, with and without a moving average of its weights, and Polyak's average of plain descent."
    ),
    baseline="SGD with momentum 0.9 and cosine decay to zero, all learning rates tuned with as many trials.",
    experiments={
        "images": Race(
            f"sgd + cosine; {OURS}; {POLYAK}; {CONSTANT} + ema; {CONSTANT}", "digits", steps=IMAGES_TO_THE_END
        )
    },
    criteria=[
        Criterion(
            "at most 1.05x of the length with cosine decay",
            lambda f: f.steps_ratio("images", OURS),
            at_most=1.05,
            paper="1x or less",
        ),
        Criterion(
            "a final loss of at most 1.01x",
            lambda f: f.final_ratio("images", OURS),
            at_most=1.01,
            paper="1x or less",
        ),
        Criterion(
            "the gradients near the average, not the average: it ends lower than Polyak's",
            lambda f: f.final_ratio("images", OURS, against=POLYAK),
            at_most=1.0,
            gain=True,
            control=True,
        ),
        decay_shows("images", CONSTANT),
    ],
    trend={
        "moving average, final loss": lambda f: f.final_ratio("images", f"{CONSTANT} + ema"),
        "Polyak's average, final loss": lambda f: f.final_ratio("images", POLYAK),
    },
    regime=images_regime(
        "residual networks on CIFAR and ImageNet with batch normalization measured anew, 100 to 300 passes",
        "images and SGD with momentum, long enough for decay to show; batch normalization as the training left it",
        schedule="cosine to zero after 5 % of warm-up; none, after as long a warm-up",
    ),
    known=(*ON_DIGITS, Known("decay", "digits")),
    minutes=20,
    limits="One small network that sees its images many times; its statistics are not measured anew for the average.",
)
