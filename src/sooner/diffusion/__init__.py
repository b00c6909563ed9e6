"""How a denoiser is trained sooner: the flow-matching loss, and parts that choose its times.

Functions take and return tensors, so they go into diffusers or a loop of one's own:
``t = sooner.diffusion.u_shaped(torch.rand(n))``. In every one of them t = 0 is data and t = 1 is noise.
"""

from sooner.diffusion._flow import Times, flow_loss, integrate, pseudo_huber, squared, training_times
from sooner.diffusion.u_shaped import UShaped, u_shaped  # the function takes the name of its file, and is meant to

__all__ = ["Times", "UShaped", "flow_loss", "integrate", "pseudo_huber", "squared", "training_times", "u_shaped"]
