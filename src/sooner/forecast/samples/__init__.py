"""Curves of our own, named sample:NAME; `python -m sooner.forecast.samples.make` made them."""
