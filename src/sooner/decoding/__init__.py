"""How a sequence model is sampled sooner, with nothing changed about what it writes.

Models are functions of tokens, or readers with a cache: ``sooner.decoding.speculative(target, draft, prompt, 100)``.
"""

from sooner.decoding._readers import Reader, Rereading
from sooner.decoding.speculative import (  # the function takes the name of its file, and is meant to
    Decoded,
    Speculative,
    expected_tokens,
    plain,
    speculative,
)

__all__ = ["Decoded", "Reader", "Rereading", "Speculative", "expected_tokens", "plain", "speculative"]
