"""Linear decay to zero matches or beats the cosine."""

from sooner.claims._claim import Claim, Criterion, Race

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
        "text": Race("adamw + cosine; adamw + linear", "charlm", steps=120),
        "digits": Race("sgd + cosine; sgd + linear", "digits", steps=120),
    },
    criteria=[
        Criterion(
            "on text at most 1.05x of the length with cosine decay",
            lambda f: f.steps_ratio("text", "adamw + linear"),
            at_most=1.05,
        ),
        Criterion(
            "on digits at most 1.05x of the length with cosine decay",
            lambda f: f.steps_ratio("digits", "sgd + linear"),
            at_most=1.05,
        ),
        Criterion(
            "on text a final loss of at most 1.01x",
            lambda f: f.final_ratio("text", "adamw + linear"),
            at_most=1.01,
        ),
    ],
    trend={"digits, final loss": lambda f: f.final_ratio("digits", "sgd + linear")},
    minutes=4,
    limits="Two of the paper's ten kinds of problem, in miniature.",
)
