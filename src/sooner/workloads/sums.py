"""A tiny Transformer that adds two-digit numbers now and then learns from reward alone to do it always.

It shows reinforcement learning with a verifiable reward as language models have it: a policy that was taught by
examples writes answers token by token, an exact check says right or wrong, and that is all it learns from. It starts
where one answer in five is right, from a network that is trained once per seed and kept.
"""

import copy
import hashlib
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.rl import Rollouts, policy_loss
from sooner.workloads._kept import kept
from sooner.workloads._seeded import Batch, Finite, Stream, generator, seeded
from sooner.workloads.charlm import Block

steps = 150
metric = "wrong"
evaluations = 25
provides = frozenset({"rollouts"})

DIGITS = 2  # of each number; the sum has one more
PLUS, EQUALS, END = 10, 11, 12
SYMBOLS = 13
PROMPT = 2 * DIGITS + 2
ANSWER = DIGITS + 2  # the sum's digits, the lowest first, and the end
WIDTH = 64
BLOCKS = 2
PROMPTS = 32  # in a batch, each answered GROUP times
GROUP = 8
EVALUATED = 512
STARTS = 4  # different starting points among all seeds
START_ACCURACY = 0.2
START_STEPS = 1000  # at most; it takes about 350


class Policy(nn.Module):
    """Symbols [N, T] -> logits of the next symbol [N, T, SYMBOLS]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, WIDTH)
        self.position = nn.Embedding(PROMPT + ANSWER, WIDTH)
        self.blocks = nn.Sequential(*(Block(WIDTH) for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        self.head = nn.Linear(WIDTH, SYMBOLS, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                branch = name.endswith(("attention_out.weight", "mlp_out.weight"))
                nn.init.normal_(parameter, std=0.07 / (2 * BLOCKS) ** 0.5 if branch else 0.07)

    def forward(self, symbols: Tensor) -> Tensor:
        """Return the logits of the symbol that follows each position."""
        positions = torch.arange(symbols.shape[1], device=symbols.device)
        logits: Tensor = self.head(self.norm(self.blocks(self.embedding(symbols) + self.position(positions))))
        return logits


def model(seed: int) -> nn.Module:
    """Return the policy to improve: one of STARTS that were taught until a fifth of their answers were right."""
    return copy.deepcopy(start(seed % STARTS))


def batches(seed: int, split: str) -> Stream:
    """Return batches (prompts int64 [N, PROMPT], groups int64 [N], uniform [N, ANSWER]).

    The uniform numbers decide what is written, so that a loss is a function of model and batch.
    """
    if split == "eval":
        return Finite(partial(_batch, seed, split, EVALUATED, 1), 1)
    return Stream(partial(_batch, seed, split, PROMPTS, GROUP))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Let the policy answer, judge the answers (+1 or -1), and return the policy loss."""
    prompts, groups, uniform = batch
    written = rollouts(model, prompts, groups, uniform)
    return policy_loss(answer_logp(model, written), written)


def metrics(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return the shares of wrong and of valid answers where the likeliest symbol is written each time."""
    prompts, _, _ = batch
    written = write(model, prompts)
    return {"wrong": 1 - right(written).float().mean(), "valid": valid(written).float().mean()}


def rollouts(model: nn.Module, prompts: Tensor, groups: Tensor, uniform: Tensor) -> Rollouts:
    """Return answers that the policy writes to prompts, with their rewards: 1 for right ones and -1 for others."""
    tokens = write(model, prompts, uniform)
    answers = tokens[:, PROMPT:]
    ended = (answers == END).cumsum(1) - (answers == END).long() > 0  # behind the first end
    mask = torch.cat([torch.zeros_like(prompts, dtype=torch.bool), ~ended], dim=1)
    reward = right(tokens).float() * 2 - 1
    with torch.no_grad():
        logp = _token_logp(model, tokens)
    return Rollouts(logp, mask, reward, groups, tokens)


def answer_logp(model: nn.Module, written: Rollouts) -> Tensor:
    """Return log-probabilities [N, PROMPT + ANSWER] of answers under a policy, with their graph."""
    assert written.tokens is not None
    return _token_logp(model, written.tokens)


@torch.no_grad()
def write(model: nn.Module, prompts: Tensor, uniform: Tensor | None = None) -> Tensor:
    """Return prompts with answers, int64 [N, PROMPT + ANSWER]: the likeliest symbols, or samples of uniform numbers."""
    tokens = prompts
    for i in range(ANSWER):
        logits = model(tokens)[:, -1]
        if uniform is None:
            chosen = logits.argmax(1, keepdim=True)
        else:
            reached = logits.softmax(1).cumsum(1)
            chosen = (reached < uniform[:, i : i + 1] * reached[:, -1:]).sum(1, keepdim=True).clamp(max=SYMBOLS - 1)
        tokens = torch.cat([tokens, chosen], dim=1)
    return tokens


def right(tokens: Tensor) -> Tensor:
    """Return whether each answer is the sum and then ends, bool [N]."""
    return (tokens[:, PROMPT:] == _solution(tokens[:, :PROMPT])).all(1)


def valid(tokens: Tensor) -> Tensor:
    """Return whether each answer is a number that ends in its place, bool [N]."""
    answers = tokens[:, PROMPT:]
    return (answers[:, :-1] < PLUS).all(1) & (answers[:, -1] == END)


def fingerprint() -> str:
    """Return what is asked, and the hash of the prompts that every run is evaluated on."""
    prompts, _, _ = batches(0, "eval")[0]
    digest = hashlib.sha256(prompts.numpy().tobytes()).hexdigest()
    return f"sums of two numbers of {DIGITS} digits, evaluated on {EVALUATED} of them, sha256 {digest}"


@cache
def start(seed: int) -> nn.Module:
    """Return the policy that was taught from this seed until START_ACCURACY of its sampled answers were right."""
    with seeded(seed):
        fresh = Policy()
    return kept("sums", lambda: fresh, partial(_teach, seed), seed, START_ACCURACY, START_STEPS)


def _teach(seed: int, model: nn.Module) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.99), weight_decay=0.01)
    examined = _pairs(np.random.default_rng([seed, 2]), 400)
    for step in range(START_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 30)
        prompts = _pairs(np.random.default_rng([seed, 3, step]), 64)
        tokens = torch.cat([prompts, _solution(prompts)], dim=1)
        logits = model(tokens[:, :-1])[:, PROMPT - 1 :]
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(logits.flatten(0, 1), tokens[:, PROMPT:].flatten()))
        optimizer.step()
        if step % 10 == 9 and _accuracy(model, examined) >= START_ACCURACY:
            return


@torch.no_grad()
def _accuracy(model: nn.Module, prompts: Tensor) -> float:
    """Return the probability with which sampled answers are right, exactly."""
    tokens = torch.cat([prompts, _solution(prompts)], dim=1)
    return float(_token_logp(model, tokens)[:, PROMPT:].sum(1).exp().mean())


def _token_logp(model: nn.Module, tokens: Tensor) -> Tensor:
    """Return the log-probability of each symbol given those before, [N, T]; 0 for the first and the prompt's."""
    logits = model(tokens[:, :-1])[:, PROMPT - 1 :]
    answers = logits.log_softmax(-1).gather(-1, tokens[:, PROMPT:, None])[..., 0]
    return F.pad(answers, (PROMPT, 0))


def _solution(prompts: Tensor) -> Tensor:
    """Return the right answers, int64 [N, ANSWER]."""
    powers = 10 ** torch.arange(DIGITS - 1, -1, -1, device=prompts.device)
    total = (prompts[:, :DIGITS] * powers).sum(1) + (prompts[:, DIGITS + 1 : -1] * powers).sum(1)
    digits = [total // 10**i % 10 for i in range(DIGITS + 1)]
    return torch.stack([*digits, torch.full_like(total, END)], dim=1)


def _pairs(random: np.random.Generator, count: int) -> Tensor:
    """Return random prompts "ab+cd=", int64 [count, PROMPT]."""
    numbers = torch.from_numpy(random.integers(10, size=(count, 2 * DIGITS)))
    symbols = [torch.full((count, 1), symbol) for symbol in (PLUS, EQUALS)]
    return torch.cat([numbers[:, :DIGITS], symbols[0], numbers[:, DIGITS:], symbols[1]], dim=1)


def _batch(seed: int, split: str, prompts: int, answers: int, index: int) -> Batch:
    random = generator(seed, split, index)
    asked = _pairs(random, prompts).repeat_interleave(answers, 0)
    groups = torch.arange(prompts).repeat_interleave(answers)
    uniform = torch.from_numpy(random.random((prompts * answers, ANSWER), dtype="float32"))
    return asked, groups, uniform
