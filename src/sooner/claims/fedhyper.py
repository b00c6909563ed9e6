"""A server whose step grows while rounds agree makes up for a learning rate that is too small."""

from sooner.claims._hyper import claim

CLAIM = claim("fedhyper")
