"""Clients whose steps grow while they agree make up for a learning rate that is too small."""

from sooner.claims._hyper import claim

CLAIM = claim("fedhyper_clients")
