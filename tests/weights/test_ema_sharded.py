"""Sharded models are averaged like whole ones, and what the view gathers does not leak into training."""

from pathlib import Path


def test_a_sharded_model_is_averaged_like_a_whole_one(ranks):
    ranks([Path(__file__).with_name("sharded_average.py")]).succeed()
