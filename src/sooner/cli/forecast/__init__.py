"""`sooner forecast`: its commands, their options and what they do, a file each."""

from sooner.cli.forecast.commands import forecast

__all__ = ["forecast"]
