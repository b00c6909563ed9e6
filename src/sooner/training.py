"""`sooner.training.Training`: what a recipe builds for one model; it lives in `sooner.recipe`."""

from sooner.recipe.training import Training

__all__ = ["Training"]
