"""Leaps along the weights' path, kept where a held-out loss agrees, save training steps."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._findings import times
from sooner.claims._regimes import ON_TEXT, text_regime
from sooner.claims._shape import IN_STEPS, at_horizons, steps_over

EVALUATIONS = 1.02
"""Gradients per step: a check every 50 steps takes three passes over a held-out batch, without gradients."""

OURS = "adamw + leap_verify"

CLAIM = Claim(
    part="leap_verify",
    paper="leap-verify",
    headline="24 % of finite-difference leaps of 5 steps pass strict verification: at most 2.4 % of steps are saved.",
    source="'Leap+Verify', 2026, abstract; the ceiling is arithmetic: 0.24 x 5 of every 50 steps",
    experiment=(
        "A character GPT is trained with AdamW and with AdamW that leaps: steps to AdamW's loss, charged with the "
        "checks, and the loss after the same steps, for two lengths of training."
    ),
    baseline="AdamW, tuned with as many trials; leaps tune their length and predictor too.",
    experiments=at_horizons(f"adamw; {OURS}"),
    criteria=[
        Criterion(
            "gradients to the middle target at most 0.976x of AdamW's",
            lambda f: times(f.steps_ratio("long", OURS), EVALUATIONS),
            at_most=0.976,
            gain=True,
            paper="0.976x",
        ),
        Criterion(
            "never harmful: loss after 1,000 steps at most 1.01x of AdamW's",
            lambda f: f.final_ratio("long", OURS),
            at_most=1.01,
            control=True,
        ),
    ],
    trend=steps_over(IN_STEPS, OURS, passes=EVALUATIONS),
    regime=text_regime(
        "GPT-2 and Qwen models of up to 1.5B parameters, fine-tuned on text, AdamW",
        "AdamW on text; from random weights, where paths turn sooner",
    ),
    known=ON_TEXT,
    minutes=7,
    limits="A gain of 2 % lies below what eight seeds can show; the study itself measured acceptance, not time saved.",
)
