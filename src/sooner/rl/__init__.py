"""How a policy is improved sooner: losses and weights for answers that a policy has written and something has judged.

Everything is tensors in and tensors out, so it goes into TRL, verl, torchrl or a loop of one's own:
``loss = sooner.rl.topr(logp, rollouts)``.
"""

from sooner.rl._rollouts import PolicyLoss, Rollouts, group_means, policy_loss, reinforce, sequence_logp
from sooner.rl.topr import TOPR, effective_positives, topr  # the function takes the name of its file, and is meant to

__all__ = [
    "TOPR",
    "PolicyLoss",
    "Rollouts",
    "effective_positives",
    "group_means",
    "policy_loss",
    "reinforce",
    "sequence_logp",
    "topr",
]
