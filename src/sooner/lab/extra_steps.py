"""Oracle: who takes additional steps that nobody counts arrives sooner, by exactly as much."""

from sooner.lab._criteria import size_within, sooner_than
from sooner.lab._races import EXTRA, ORACLES, SHARES
from sooner.lab._truth import Setting, Truth

TRUTH = Truth(
    name="extra_steps",
    says="A recipe that takes one more step after every k-th arrives in k / (k + 1) of the steps.",
    source="by construction",
    expected="0.5x, 0.75x and 0.9x of the steps",
    oracle=True,
    on={
        workload: Setting(
            {"plain": race},
            [
                criterion
                for every, share in SHARES.items()
                for criterion in (
                    *([sooner_than("plain", f"{plain} + {EXTRA}(every={every})", plain, 0.85)] if share < 0.8 else []),
                    size_within("plain", f"{plain} + {EXTRA}(every={every})", plain, share),
                )
            ],
        )
        for workload, (plain, race) in ORACLES.items()
    },
)
