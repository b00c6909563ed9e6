"""A small Transformer learns an invented language of 1,944 words, whose exact entropy is known.

It shows language-model training with a heavy tail of words, of which text in characters has none: most words are rare,
and verbs agree with nouns that stand many words before, with whole sentences between. What comes next is drawn from
probabilities that are known, so a loss is measured from the best that is possible, and documents never end.
"""

import hashlib
from functools import lru_cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.workloads._grammar import CLASSES, VOCABULARY, category, language
from sooner.workloads._seeded import Batch, Finite, Stream, generator, scaled, seeded
from sooner.workloads.charlm import GPT, HEAD_WIDTH

steps = 1000
metric = "excess"
evaluations = 20

CONTEXT = 64
WIDTH = 64
BLOCKS = 2
SEQUENCES = 8  # in a training batch
EVAL_SEQUENCES = 64  # in the one evaluation batch
DRAWN = 64  # batches drawn at once: drawing costs little more for all of them than for one


def model(seed: int, size: float = 1) -> nn.Module:
    """Return the network with weights drawn from `seed`, of about `size` times the parameters."""
    width = scaled(WIDTH, size, HEAD_WIDTH, linear=0.72)  # most are embeddings
    with seeded(seed):
        return GPT(width, BLOCKS, VOCABULARY, CONTEXT)


def batches(seed: int, split: str) -> Stream:
    """Return batches (documents int64 [N, CONTEXT + 1], surprise [N, CONTEXT]).

    A document begins with its topic. The surprise is minus the logarithm of the probability of every token but that,
    given all before it, in nats.
    """
    if split == "eval":
        return Finite(partial(documents_of, 0.0, seed, split, EVAL_SEQUENCES), 1)
    return Stream(partial(documents_of, 0.0, seed, split, SEQUENCES))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the next token, in nats."""
    documents = batch[0]
    return F.cross_entropy(model(documents[:, :-1]).flatten(0, 1), documents[:, 1:].flatten())


def metrics(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return by how much the loss exceeds that of a perfect reader, and how often verbs would not agree.

    "excess" is the difference on the very same tokens. "disagreeing" is, where a verb comes, the share of the
    probability of verbs that lies on those of the three wrong classes, 3/4 for who does not know.
    """
    documents, surprise = batch
    logits = model(documents[:, :-1])
    return {
        "excess": F.cross_entropy(logits.flatten(0, 1), documents[:, 1:].flatten()) - surprise.mean(),
        "disagreeing": _disagreeing(logits, documents[:, 1:]),
    }


def fingerprint() -> str:
    """Return the size of the language and the hash of its words and their probabilities."""
    return fingerprint_of(0.0)


def fingerprint_of(shift: float) -> str:
    """Return what `fingerprint` does of a dialect of the language."""
    whole = language(shift)
    digest = hashlib.sha256(b"".join(array.tobytes() for array in (whole.words, whole.features, whole.transitive)))
    digest.update(np.round(whole.surprise, 6).tobytes())  # rounded: the last bits depend on the processor
    return f"a generated language of {VOCABULARY} tokens, sha256 {digest.hexdigest()}"


def documents_of(shift: float, seed: int, split: str, rows: int, index: int) -> Batch:
    """Return batch `index` of documents of a dialect of the language, as `batches` does.

    Args:
        shift: of the dialect, 0 for the language itself.
        seed: of the documents.
        split: "train" or "eval".
        rows: documents of a batch.
        index: of the batch.
    """
    block, place = divmod(index, DRAWN if split == "train" else 1)
    chosen = slice(place * rows, (place + 1) * rows)
    documents, surprise = _block(shift, seed, split, rows * (DRAWN if split == "train" else 1), block)
    return documents[chosen].clone(), surprise[chosen].clone()


def _disagreeing(logits: Tensor, following: Tensor) -> Tensor:
    verbs = category("verb")
    here = (following >= verbs.start) & (following < verbs.stop)
    chances = logits[here][:, verbs.start : verbs.stop].softmax(-1)
    by_class = chances.reshape(len(chances), CLASSES, -1).sum(-1)
    kinds = (following[here] - verbs.start) // (len(verbs) // CLASSES)
    agreeing: Tensor = by_class.gather(1, kinds[:, None]).mean()
    return 1 - agreeing


@lru_cache(maxsize=8)
def _block(shift: float, seed: int, split: str, rows: int, block: int) -> tuple[Tensor, Tensor]:
    documents, surprise = language(shift).documents(generator(seed, split, block), rows, CONTEXT)
    return torch.from_numpy(documents), torch.from_numpy(surprise)
