"""`sooner.checkpoint`: checkpoints of the reference loop, written and read; they live in `sooner.loop`."""

from sooner.loop.checkpoint import load_checkpoint, load_weights, save_checkpoint

__all__ = ["load_checkpoint", "load_weights", "save_checkpoint"]
