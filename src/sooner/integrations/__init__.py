"""Recipes in other people's loops: Hugging Face's Trainer and Accelerate, Lightning; each needs its own library.

Every integration hands the framework one optimizer, inside of which the whole recipe acts at each step really taken:
gradient parts, one or several optimizers, schedules and weight averages. What a framework's loop can't let a part do is
refused in one sentence before the first step.
"""
