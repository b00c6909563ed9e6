"""SGD with momentum ends at least as well as Adam on a convolutional network."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import images_regime

SGD, PLAIN = "sgd + cosine", "sgd(momentum=0.0) + cosine"

CLAIM = Claim(
    part="sgd",
    paper="",
    headline="On image classification SGD with momentum generalises at least as well as Adam, often better.",
    source="Wilson et al., 2017, arXiv 1705.08292",
    experiment=(
        "A residual network learns families of outlines from images that never repeat, with AdamW, with SGD with "
        "momentum and with SGD without, all along a cosine: loss on held-out images after the same number of steps, "
        "and the length of training that reaches AdamW's loss."
    ),
    baseline="AdamW with cosine, its learning rate tuned with as many trials as SGD's.",
    experiments={
        "shapes": Race(f"adamw + cosine; {SGD}; {PLAIN}", "shapes", steps=1000),
        "text": Race("adamw; sgd", "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "held-out loss after 1,000 steps at most 1.05x of AdamW's",
            lambda f: f.final_ratio("shapes", SGD),
            at_most=1.05,
        ),
        Criterion(
            "held-out loss after 1,000 steps lower than AdamW's",
            lambda f: f.final_ratio("shapes", SGD),
            at_most=1.0,
            gain=True,
        ),
        Criterion(
            "at most 1.1x of the length of training with AdamW",
            lambda f: f.steps_ratio("shapes", SGD),
            at_most=1.1,
        ),
        Criterion(
            "optimizers differ here: without momentum SGD ends at least 1.01x as high as with it",
            lambda f: f.final_ratio("shapes", PLAIN, against=SGD),
            at_least=1.01,
            gain=True,
            positive=True,
        ),
    ],
    trend={
        "images, residual network": lambda f: f.steps_ratio("shapes", SGD),
        "text, Transformer": lambda f: f.steps_ratio("text", "sgd"),
    },
    regime=images_regime(
        "VGG-like networks on CIFAR-10 for 250 passes with decayed rates, and recurrent networks on text",
        "a normalized convolutional network with decayed rates, as there; images never repeat, so that what is seen is "
        "how low a method gets and not what it learns by heart",
        schedule="cosine to zero after 5 % of warm-up",
        noise="batches of 64 images that never repeat, 4 % of the labels wrong",
    ),
    minutes=22,
    limits="A network of 38,000 parameters; the paper trains large ones for hundreds of passes.",
)
