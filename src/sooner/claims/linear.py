"""Linear decay to zero matches or beats the cosine."""

from sooner.claims._claim import Claim, Criterion, Known, Race
from sooner.claims._regimes import ON_TEXT, text_regime
from sooner.claims._shape import CONSTANT, IMAGES_TO_THE_END, TO_THE_END, decay_shows

IMAGES_CONSTANT = f"sgd + constant(warmup={IMAGES_TO_THE_END // 20})"

CLAIM = Claim(
    part="linear",
    paper="",
    headline="Linear decay to zero matches or beats all commonly used schedules, cosine among them.",
    source="Defazio et al., 2023, arXiv 2310.07831, abstract",
    experiment=(
        "A character GPT with AdamW and a convolutional network with SGD are trained with cosine and with linear "
        "decay: the length of training that reaches the baseline's loss, and the loss at equal length."
    ),
    baseline="The same optimizer with cosine decay, both learning rates tuned with as many trials.",
    experiments={
        "text": Race(f"adamw + cosine; adamw + linear; {CONSTANT}", "charlm", steps=TO_THE_END),
        "shapes": Race(f"sgd + cosine; sgd + linear; {IMAGES_CONSTANT}", "shapes", steps=IMAGES_TO_THE_END),
    },
    criteria=[
        Criterion(
            "on text at most 1.05x of the length with cosine decay",
            lambda f: f.steps_ratio("text", "adamw + linear"),
            at_most=1.05,
        ),
        Criterion(
            "on images at most 1.05x of the length with cosine decay",
            lambda f: f.steps_ratio("shapes", "sgd + linear"),
            at_most=1.05,
        ),
        Criterion(
            "on text a final loss of at most 1.01x",
            lambda f: f.final_ratio("text", "adamw + linear"),
            at_most=1.01,
        ),
        decay_shows("text", CONSTANT),
        decay_shows("shapes", IMAGES_CONSTANT),
    ],
    trend={"images, final loss": lambda f: f.final_ratio("shapes", "sgd + linear")},
    regime=text_regime(
        "ten kinds of problem, from ImageNet and CIFAR to translation and language models, whole schedules",
        "long enough for decay to show, on text with AdamW and on images with SGD",
        schedule="cosine, and what is compared with it, after 5 % of warm-up",
    ),
    known=(*ON_TEXT, Known("decay", "charlm")),
    minutes=45,
    limits="Two of the paper's ten kinds of problem, in miniature.",
)
