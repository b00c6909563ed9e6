"""Oracle: who is some steps ahead arrives that many steps sooner."""

from sooner.lab._criteria import size_within
from sooner.lab._races import AHEAD, EXTRA, ORACLES
from sooner.lab._truth import Setting, Truth

TRUTH = Truth(
    name="head_start",
    says="A recipe that is 40 steps ahead arrives 40 steps sooner.",
    source="by construction",
    expected="40 steps, whatever the target",
    oracle=True,
    on={
        workload: Setting(
            {"plain": race},
            [size_within("plain", f"{plain} + {EXTRA}(first={AHEAD})", plain, {"ahead": AHEAD})],
        )
        for workload, (plain, race) in ORACLES.items()
    },
)
