"""The reference loop: training from the first step to the last, among workers, with checkpoints."""

from sooner.loop._loop import (
    Run,
    evaluate,
    evaluation_steps,
    identity_of,
    objective_of,
    provided_by,
    refuse_unmet,
    train,
)

__all__ = ["Run", "evaluate", "evaluation_steps", "identity_of", "objective_of", "provided_by", "refuse_unmet", "train"]
