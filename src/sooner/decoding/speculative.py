"""Speculative decoding: a small model guesses several tokens, the large one checks them all in one call.

    guess x_1 … x_k from q;   in one call p_1 … p_(k+1);   keep x_i while u_i < p_i(x_i) / q_i(x_i), u_i uniform
    at the first that is refused draw from max(0, p_i - q_i), made a distribution; if none is, one more from p_(k+1)

What comes out has exactly the distribution of the target, whatever the draft is: a bad draft only costs time. At
temperature 0 it is the very text of greedy decoding. A call gives (1 - alpha^(k+1)) / (1 - alpha) tokens where a guess
is kept with probability alpha, on average the overlap of the two distributions, the sum of min(p, q). Temperature and
top-k are applied to both models alike, before they are compared.

Use it when a model writes one text at a time and a call costs much the same for five tokens as for one: rollouts of
reinforcement learning, evaluations, a demo.

Leave it when many texts are written at once and the device is busy anyway, or no small model agrees with the large one.

It costs k calls of the draft for every call of the target, and the draft's memory; nothing on the wire.

Leviathan, Kalman and Matias, 2022, arXiv 2211.17192, algorithm 1; Chen et al., 2023, arXiv 2302.01318.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sooner.decoding._readers import Reader, reader_of
from sooner.error import SoonerError
from sooner.objective import evaluating, exact
from sooner.part import Part, check_range

__all__ = ["Decoded", "Speculative", "expected_tokens", "plain", "speculative"]


@dataclass(frozen=True)
class Decoded:
    """A text and what it took.

    Attributes:
        tokens: int64 ``[n]``, the new ones, without the prompt.
        calls: of the target, that which reads the prompt included.
        draft_calls: of the draft.
        examined: guesses that were compared with the target; those behind a refused one are not.
        accepted: guesses that were kept.
    """

    tokens: Tensor
    calls: int
    draft_calls: int
    examined: int
    accepted: int

    @property
    def tokens_per_call(self) -> float:
        """New tokens for each call of the target; 1 without a draft."""
        return len(self.tokens) / max(self.calls, 1)

    @property
    def acceptance(self) -> float:
        """Share of the examined guesses that were kept; not a number where none was made."""
        return self.accepted / self.examined if self.examined else math.nan


def speculative(
    target: Reader | Callable[[Tensor], Tensor],
    draft: Reader | Callable[[Tensor], Tensor],
    prompt: Tensor,
    length: int,
    *,
    k: int = 4,
    temperature: float = 1.0,
    top_k: int | None = None,
    end: int | None = None,
    generator: torch.Generator | None = None,
) -> Decoded:
    """Continue a prompt as the target would, with the help of a draft.

    Args:
        target: a model ``tokens [1, n] -> logits [1, n, symbols]``, which reads everything again for every call, or a
            `Reader` with a cache. Modules are in evaluation mode meanwhile.
        draft: the same, with the same symbols.
        prompt: int64 ``[n]``, at least one token.
        length: how many tokens to write, fewer where `end` comes. No model reads more than the prompt and these.
        k: guesses per call, at least 1, default 4.
        temperature: divides the logits, default 1; 0 takes the likeliest token.
        top_k: only so many likeliest tokens are possible; default None for all.
        end: token behind which to stop; default None for no such token.
        generator: where the randomness comes from, on the models' device; None for PyTorch's own.

    Raises:
        SoonerError: a setting out of range, a prompt that is none, or models that don't belong together.
    """
    _check(k, temperature, top_k)
    return _decode(
        reader_of(target, "target"), reader_of(draft, "draft"), prompt, length, k, temperature, top_k, end, generator
    )


def plain(
    target: Reader | Callable[[Tensor], Tensor],
    prompt: Tensor,
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    end: int | None = None,
    generator: torch.Generator | None = None,
) -> Decoded:
    """Continue a prompt token by token; arguments and result as those of `speculative`, without a draft."""
    _check(1, temperature, top_k)
    return _decode(reader_of(target, "target"), None, prompt, length, 0, temperature, top_k, end, generator)


def expected_tokens(acceptance: float, k: int) -> float:
    """Return how many tokens a call of the target gives on average, if every guess is kept with this probability.

    Args:
        acceptance: in [0, 1].
        k: guesses per call.

    Raises:
        SoonerError: a number out of range.
    """
    check_range("expected_tokens", "acceptance", acceptance, 0.0, 1.0)
    check_range("expected_tokens", "k", k, 0, math.inf, whole=True)
    return float(sum(acceptance**i for i in range(k + 1)))


@torch.no_grad()
def _decode(
    target: Reader,
    draft: Reader | None,
    prompt: Tensor,
    length: int,
    k: int,
    temperature: float,
    top_k: int | None,
    end: int | None,
    generator: torch.Generator | None,
) -> Decoded:
    check_range("speculative", "length", length, 0, math.inf, whole=True)
    if prompt.ndim != 1 or len(prompt) == 0 or prompt.is_floating_point() or prompt.dtype == torch.bool:
        raise SoonerError(
            f"speculative: the prompt has shape {tuple(prompt.shape)} and type {prompt.dtype}; give whole numbers [n], "
            "at least one: models continue something"
        )
    text = prompt.long()
    wanted = len(text) + length
    calls = draft_calls = examined = accepted = 0

    def probabilities(logits: Tensor) -> Tensor:
        return _probabilities(logits, temperature, top_k)

    with contextlib.ExitStack() as stack:
        for one in (target, draft):
            model = getattr(one, "model", None)
            if isinstance(model, nn.Module):
                stack.enter_context(evaluating(model))
        while len(text) < wanted:
            guesses, likely = [], []  # k tokens [1] and their distributions [symbols]
            unread = text[draft.length :] if draft is not None else text
            for _ in range(min(k, wanted - len(text) - 1) if draft is not None else 0):
                assert draft is not None
                q = probabilities(_read(draft, unread, "draft")[-1:])[0]
                unread = _drawn(q, generator)
                guesses.append(unread)
                likely.append(q)
            draft_calls += len(guesses)
            logits = _read(target, torch.cat([text[target.length :], *guesses]), "target")
            p = probabilities(logits[-len(guesses) - 1 :])
            calls += 1
            kept, last = _judge(p, likely, guesses, generator)
            examined += min(kept + 1, len(guesses))
            accepted += kept
            new = torch.cat([*guesses[:kept], last])
            stopped = (new == end).nonzero() if end is not None else new[:0]
            text = torch.cat([text, new[: int(stopped[0]) + 1] if len(stopped) else new])
            if len(stopped):
                break
            for one in (target, draft):
                if one is not None and one.length > len(text) - 1:
                    one.cut(len(text) - 1)
    return Decoded(text[len(prompt) :], calls, draft_calls, examined, accepted)


def _read(reader: Reader, tokens: Tensor, name: str) -> Tensor:
    try:
        return reader.read(tokens)
    except IndexError as error:
        raise SoonerError(
            f"speculative: the {name} can't read a token ({error}); both models need the same symbols, and positions "
            "for the prompt and all that is to be written"
        ) from error


def _judge(
    p: Tensor, likely: list[Tensor], guesses: list[Tensor], generator: torch.Generator | None
) -> tuple[int, Tensor]:
    """Return how many guesses are kept, and the token that comes behind them, int64 [1].

    Args:
        p: the target's distributions, ``[k + 1, symbols]``.
        likely: the draft's, k of ``[symbols]``.
        guesses: k tokens, each ``[1]``.
        generator: of the uniform numbers.
    """
    if likely and likely[0].shape != p.shape[1:]:
        raise SoonerError(
            f"speculative: the draft has {likely[0].shape[0]} symbols and the target {p.shape[1]}; both must have the "
            "same, in the same order"
        )
    kept = 0
    if guesses:
        chosen = torch.stack(guesses)  # [k, 1]
        ours = torch.stack(likely).gather(1, chosen)[:, 0]
        uniform = torch.rand(len(guesses), generator=generator, dtype=p.dtype, device=p.device)
        good = uniform * ours < p[:-1].gather(1, chosen)[:, 0]
        kept = int(good.long().cumprod(0).sum())
    if kept == len(guesses):
        return kept, _drawn(p[-1], generator)
    return kept, _drawn(_residual(p[kept], likely[kept]), generator)


def _residual(p: Tensor, q: Tensor) -> Tensor:
    """Return what the target has more than the draft; p itself where rounding leaves nothing of that."""
    more = (p - q).clamp(min=0)
    return torch.where(more.sum() > 0, more, p)


def _probabilities(logits: Tensor, temperature: float, top_k: int | None) -> Tensor:
    """Return the distributions ``[n, symbols]`` that tokens are drawn from, in the device's widest type."""
    wide = logits.to(exact(logits))
    if bool(wide.isnan().any()) or bool((wide.amax(1) == -math.inf).any()):
        raise SoonerError(
            "speculative: a model returned logits that are no numbers, or that make every token impossible; check its "
            "weights and what it was given"
        )
    if top_k is not None and top_k < wide.shape[1]:
        least = wide.topk(top_k, dim=1).values[:, -1:]
        wide = wide.masked_fill(wide < least, -math.inf)
    if temperature == 0:
        return torch.zeros_like(wide).scatter_(1, wide.argmax(1, keepdim=True), 1.0)
    return (wide / temperature).softmax(1)


def _drawn(weights: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return one token ``[1]``, as often as its weight says; the weights need not add up to 1."""
    return torch.multinomial(weights, 1, generator=generator)


def _check(k: int, temperature: float, top_k: int | None) -> None:
    check_range("speculative", "k", k, 1, math.inf, whole=True)
    check_range("speculative", "temperature", temperature, 0.0, math.inf)
    if top_k is not None:
        check_range("speculative", "top_k", top_k, 1, math.inf, whole=True)


class Speculative(Part):
    """The settings as an object: ``decode = Speculative(k=4)``, then ``decode(target, draft, prompt, length)``.

    It takes no part in training, so a recipe refuses it before the first step.

    Args:
        k: guesses per call of the target, at least 1, default 4.
        temperature: divides the logits, default 1; 0 takes the likeliest token.
        top_k: only so many likeliest tokens are possible; default None for all.
        end: token behind which to stop; default None for no such token.

    Raises:
        SoonerError: a setting out of range.
    """

    station: ClassVar[str] = "decoding"
    needs = frozenset({"draft model"})

    def __init__(self, k: int = 4, temperature: float = 1.0, top_k: int | None = None, end: int | None = None) -> None:
        _check(k, temperature, top_k)
        self.k, self.temperature, self.top_k, self.end = k, temperature, top_k, end

    def __call__(
        self,
        target: Reader | Callable[[Tensor], Tensor],
        draft: Reader | Callable[[Tensor], Tensor],
        prompt: Tensor,
        length: int,
        generator: torch.Generator | None = None,
    ) -> Decoded:
        """Continue a prompt, as `speculative`."""
        return speculative(
            target,
            draft,
            prompt,
            length,
            k=self.k,
            temperature=self.temperature,
            top_k=self.top_k,
            end=self.end,
            generator=generator,
        )
