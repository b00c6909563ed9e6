"""A small GPT learns to guess what a larger one would write, so that the larger one only has to check.

It shows training for speculative decoding: the draft is distilled from the target's distributions over Python's source
code, and what counts is how often a guess of it would be accepted. The target is trained once and kept.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.decoding import Reader
from sooner.recipe import Recipe
from sooner.workloads import charlm
from sooner.workloads._kept import kept
from sooner.workloads._seeded import Batch, Stream, seeded
from sooner.workloads.charlm import GPT, HEAD_WIDTH, Block

steps = 300
metric = "refused"
evaluations = 20

TARGET_WIDTH = 128
TARGET_BLOCKS = 4
TARGET_STEPS = 600
WIDTH = 48
BLOCKS = 1
CONSTANT = 2302  # seeds the target, which belongs to the task and not to a run


def model(seed: int) -> nn.Module:
    """Return the draft with weights drawn from `seed`."""
    with seeded(seed):
        return GPT(WIDTH, BLOCKS)


def batches(seed: int, split: str) -> Stream:
    """Return the batches of `charlm`: text windows, int64 [N, CONTEXT + 1]."""
    return charlm.batches(seed, split)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean divergence KL(target || draft) of the next character, in nats."""
    wanted, found = _both(model, batch)
    return F.kl_div(found, wanted, reduction="none", log_target=True).sum(-1).mean()


def metrics(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return how often speculative decoding would refuse a guess on this text: 1 less the overlap of both models."""
    wanted, found = _both(model, batch)
    return {"refused": 1 - torch.minimum(wanted, found).exp().sum(-1).mean()}


def fingerprint() -> str:
    """Return what `charlm` says of the text, and the size of the target."""
    return f"a target of {TARGET_BLOCKS} blocks of width {TARGET_WIDTH} on {charlm.fingerprint()}"


@cache
def target() -> nn.Module:
    """Return the trained target, in evaluation mode and without gradients; everybody shares it."""

    def fresh() -> nn.Module:
        with seeded(CONSTANT):
            return GPT(TARGET_WIDTH, TARGET_BLOCKS)

    return kept("draft_text", fresh, _train_target, TARGET_STEPS, charlm.fingerprint()).eval().requires_grad_(False)


def reader(model: nn.Module) -> Reader:
    """Return a network of this task as a reader with a cache of keys and values."""
    return _Cached(model)


def _train_target(model: nn.Module) -> None:
    training = Recipe("muon(lr=0.02) + linear").build(model, TARGET_STEPS)
    windows = charlm.batches(CONSTANT, "train")
    for step in range(TARGET_STEPS):
        pair = torch.cat([windows[2 * step][0], windows[2 * step + 1][0]])
        torch.autograd.backward(charlm.loss(model, (pair,)))
        training.step()
        training.zero_grad()


def _both(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of target and draft, each [N, CONTEXT, SYMBOLS]."""
    (windows,) = batch
    with torch.no_grad():
        wanted = target()(windows[:, :-1]).log_softmax(-1)
    return wanted, model(windows[:, :-1]).log_softmax(-1)


class _Cached:
    """Reads with a `GPT` of `charlm`, keeping keys and values of each block, ``[heads, read, HEAD_WIDTH]``."""

    def __init__(self, model: nn.Module) -> None:
        assert isinstance(model, GPT)
        self.model = model
        self.length = 0
        self._kept: list[tuple[Tensor, Tensor] | None] = [None] * len(model.blocks)

    def read(self, tokens: Tensor) -> Tensor:
        """Read more tokens."""
        positions = torch.arange(self.length, self.length + len(tokens), device=tokens.device)
        x = self.model.embedding(tokens) + self.model.position(positions)  # [n, D]
        # each new token sees all that were read before and the new ones up to itself
        seen = torch.ones(len(tokens), self.length + len(tokens), dtype=torch.bool, device=tokens.device)
        seen = seen.tril(self.length)
        for number, block in enumerate(self.model.blocks):
            assert isinstance(block, Block)
            x = self._through(number, block, x, seen)
        self.length += len(tokens)
        logits: Tensor = self.model.head(self.model.norm(x))
        return logits

    def cut(self, length: int) -> None:
        """Forget all but the first tokens."""
        self.length = min(length, self.length)
        self._kept = [None if one is None else (one[0][:, :length], one[1][:, :length]) for one in self._kept]

    def _through(self, number: int, block: Block, x: Tensor, seen: Tensor) -> Tensor:
        split = block.query_key_value(block.attention_norm(x)).view(len(x), 3, -1, HEAD_WIDTH)
        query, key, value = split.permute(1, 2, 0, 3)  # each [heads, n, HEAD_WIDTH]
        before = self._kept[number]
        if before is not None:
            key, value = torch.cat([before[0], key], dim=1), torch.cat([before[1], value], dim=1)
        self._kept[number] = key, value
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        x = x + block.attention_out(mixed.transpose(0, 1).reshape(len(x), -1))
        out: Tensor = x + block.mlp_out(F.gelu(block.mlp_in(block.mlp_norm(x))))
        return out
