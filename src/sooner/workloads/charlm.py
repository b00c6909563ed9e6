"""A tiny GPT learns the characters of the source code of Python's own standard library.

It shows what language-model training shows at any size: Adam leaves SGD far behind, orthogonalized updates of the
matrices go further still, and too large a learning rate ends in a loss spike. The layout of the network follows GPT-2
(Radford et al., 2019: Language Models are Unsupervised Multitask Learners) without the biases.
"""

import hashlib
import platform
import sysconfig
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.error import SoonerError
from sooner.workloads._seeded import Batch, Finite, Stream, generator, scaled, seeded

steps = 400
evaluations = 20

CONTEXT = 64
WIDTH = 64
BLOCKS = 2
HEAD_WIDTH = 16
SEQUENCES = 8  # in a training batch
EVAL_SEQUENCES = 32  # in the one evaluation batch

# symbol 0 stands for every byte that is not listed
ALPHABET = b"\n" + bytes(range(32, 127))
SYMBOLS = len(ALPHABET) + 1


class Block(nn.Module):
    """A Transformer block that normalizes before attention and before the two-layer network: [N, T, D] -> same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width, bias=False)
        self.mlp_in = nn.Linear(width, 4 * width, bias=False)
        self.mlp_out = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus attention plus the two-layer network."""
        rows, length, width = x.shape
        heads = self.query_key_value(self.attention_norm(x)).view(rows, length, 3, width // HEAD_WIDTH, HEAD_WIDTH)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each [N, H, T, D/H]
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(rows, length, width))
        widened = F.gelu(self.mlp_in(self.mlp_norm(x)))  # [N, T, 4D]
        out: Tensor = x + self.mlp_out(widened)
        return out


class GPT(nn.Module):
    """Symbols [N, T] -> logits of the next symbol [N, T, symbols], for T up to `context`."""

    def __init__(
        self, width: int = WIDTH, blocks: int = BLOCKS, symbols: int = SYMBOLS, context: int = CONTEXT
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, symbols, bias=False)
        deviation = 0.02 * (768 / width) ** 0.5  # GPT-2's initial weights, carried over from its width of 768
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                # the residual stream is a sum of 2 * blocks branches; scaling them keeps its variance at one branch's
                branch = name.endswith(("attention_out.weight", "mlp_out.weight"))
                nn.init.normal_(parameter, std=deviation / (2 * blocks) ** 0.5 if branch else deviation)

    def forward(self, symbols: Tensor) -> Tensor:
        """Return the logits of the symbol that follows each position."""
        positions = torch.arange(symbols.shape[1], device=symbols.device)
        x = self.embedding(symbols) + self.position(positions)
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits


def model(seed: int, size: float = 1) -> nn.Module:
    """Return the network with weights drawn from `seed`, of about `size` times the parameters."""
    width = scaled(WIDTH, size, HEAD_WIDTH, linear=0.15)
    with seeded(seed):
        return GPT(width)


def batches(seed: int, split: str) -> Stream:
    """Return batches of text windows (int64 [N, CONTEXT + 1]) at random places of the files of `split`."""
    if split == "eval":
        return Finite(partial(windows, CONTEXT, seed, split, EVAL_SEQUENCES), 1)
    return Stream(partial(windows, CONTEXT, seed, split, SEQUENCES))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the next character, in nats."""
    (windows,) = batch
    logits = model(windows[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


def fingerprint() -> str:
    """Return the Python version and the hash of the text, which differs from one Python version to the next."""
    corpus = b"\x00".join(text.tobytes() for text in (_text("train"), _text("eval")))
    return f"Python {platform.python_version()} standard library, sha256 {hashlib.sha256(corpus).hexdigest()}"


def windows(context: int, seed: int, split: str, rows: int, index: int) -> Batch:
    """Return batch `index` of windows of the text, int64 [rows, context + 1], that begin anywhere."""
    text = _text(split)
    starts = generator(seed, split, index).integers(0, len(text) - context, size=rows)
    found = text[starts[:, None] + np.arange(context + 1)]
    return (torch.from_numpy(found.astype(np.int64)),)


@cache
def _text(split: str) -> npt.NDArray[np.uint8]:
    """Return the symbols of the files of `split`; every tenth file in alphabetical order is held out."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    # names with an underscore are left out: among them are files that a build writes with its own paths
    files = sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))
    if len(files) < 50:
        raise SoonerError(
            f"the workload 'charlm' needs the source of Python's standard library, but {str(folder)!r} holds "
            f"{len(files)} of its files; use a Python that is installed as files, not as a zip."
        )
    chosen = [path for number, path in enumerate(files) if (number % 10 == 9) == (split == "eval")]
    text = b"\n".join(path.read_bytes().replace(b"\r\n", b"\n") for path in chosen)
    symbol = np.zeros(256, dtype=np.uint8)
    symbol[list(ALPHABET)] = np.arange(1, SYMBOLS)
    return symbol[np.frombuffer(text, dtype=np.uint8)]
