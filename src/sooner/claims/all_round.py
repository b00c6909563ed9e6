"""One untuned setting on the scale of AdamW reaches a tuned AdamW's loss in fewer steps, on text and on a table."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import ON_TEXT, oracle, oracle_shows, text_regime

FIXED = "all_round(lr=0.01)"
RACED = f"adamw; {FIXED}; all_round; {oracle('adamw')}"

CLAIM = Claim(
    part="all_round",
    paper="",
    headline="Muon at AdamW's scale with one rate for all needs half of AdamW's compute; one setting carries over.",
    source="Liu et al., 2025, arXiv 2502.16982, abstract and section 2.2",
    experiment=(
        "A character GPT, which has hidden matrices, and a table of words, which has none, are trained with one fixed "
        "setting, with the same rule tuned, and with tuned AdamW: steps to the loss of the baseline."
    ),
    baseline="AdamW at a constant rate, tuned on each workload; the fixed setting is the same on both.",
    experiments={"text": Race(RACED, "charlm", steps=1000), "table": Race(RACED, "zipf", steps=300)},
    criteria=[
        Criterion(
            "text: the fixed setting takes at most 0.85x of tuned AdamW's steps to the middle target",
            lambda f: f.steps_ratio("text", FIXED),
            at_most=0.85,
            gain=True,
            paper="0.52x of the FLOP",
        ),
        Criterion(
            "a table, without hidden matrices: at most 1.1x of tuned AdamW's steps",
            lambda f: f.steps_ratio("table", FIXED),
            at_most=1.1,
        ),
        Criterion(
            "text: tuning it anew gains little, at most 1.15x of the tuned rule's steps",
            lambda f: f.steps_ratio("text", FIXED, against="all_round"),
            at_most=1.15,
        ),
        oracle_shows("text", "adamw"),
    ],
    regime=text_regime(
        "mixture-of-experts language models of up to 16 billion parameters on up to 5.7 trillion tokens",
        "a Transformer on text from random weights, as there; rates are constant, and there is little weight decay",
    ),
    known=ON_TEXT,
    minutes=14,
    limits="Two small models; `benchmarks/one_configuration.py` measures it on ten workloads, three of them held back.",
)
