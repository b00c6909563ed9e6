"""`sooner link`: its commands and the tables that they print."""

from sooner.cli.link.commands import link

__all__ = ["link"]
