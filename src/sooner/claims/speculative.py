"""Speculative decoding writes what the target writes, in half the time."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from scipy import stats
from torch import Tensor, nn

from sooner import loop
from sooner.claims._claim import Claim, Criterion, Measured, Measurement, Regime
from sooner.claims._findings import Findings
from sooner.decoding import Decoded, expected_tokens, plain, speculative
from sooner.workloads import charlm, draft_text, find

PROMPT, WRITTEN = 8, 56
GUESSES = (2, 4, 8)


@cache
def target(small: bool) -> nn.Module:
    """Return the target of `draft_text`; in the miniature one that was never trained."""
    return charlm.GPT(32, 1).eval() if small else draft_text.target()


@cache
def draft(arm: str, seed: int, small: bool) -> nn.Module:
    """Return a draft, distilled from the target or as it was drawn."""
    if arm == "untrained" or small:
        return draft_text.model(seed).eval()
    task = find("draft_text")
    recipe = "muon(on='blocks.*', lr=0.02) + adamw(on='rest', lr=0.005) + linear"
    return loop.train(task, recipe, seed, evaluate_at=[]).model.eval()


def prompts(seed: int, count: int) -> Tensor:
    """Return beginnings of held-out text, int64 [count, PROMPT]."""
    (windows,) = charlm.batches(seed, "eval")[0]
    return windows[:count, :PROMPT]


def write(arm: str, k: int, seed: int, small: bool) -> dict[str, Any]:
    """Continue prompts with and without a draft, in turns: tokens per call, acceptance, CPU time, greedy texts."""
    large, little = target(small), draft(arm, seed, small)
    asked = prompts(seed, 2 if small else 20)
    spent = {"plain": 0.0, "with a draft": 0.0}
    made: list[Decoded] = []
    same = 0
    for number, prompt in enumerate(asked):
        for temperature in (0.0, 1.0):
            found = {}
            for way in spent:
                generator = torch.Generator().manual_seed(1000 * seed + number)
                settings: dict[str, Any] = {"temperature": temperature, "generator": generator}
                started = time.process_time()
                if way == "plain":
                    found[way] = plain(draft_text.reader(large), prompt, WRITTEN, **settings)
                else:
                    readers = draft_text.reader(large), draft_text.reader(little)
                    found[way] = speculative(*readers, prompt, WRITTEN, k=k, **settings)
                if temperature:
                    spent[way] += time.process_time() - started
            if temperature:
                made.append(found["with a draft"])
            else:
                same += int(torch.equal(found["plain"].tokens, found["with a draft"].tokens))
    calls, tokens = sum(one.calls for one in made), sum(len(one.tokens) for one in made)
    acceptance = sum(one.accepted for one in made) / sum(one.examined for one in made)
    return {
        "same": same / len(asked),
        "tokens per call": tokens / calls,
        "acceptance": acceptance,
        "expected": expected_tokens(acceptance, k),
        "plain": spent["plain"] / tokens,
        "with a draft": spent["with a draft"] / tokens,
    }


def distribution(arm: str, texts: int, small: bool) -> dict[str, Any]:
    """Write the same beginning on many times; compare the first two characters with their exact probabilities."""
    large, little = target(small), draft(arm, 0, small)
    (prompt,) = prompts(0, 1)
    symbols = torch.arange(charlm.SYMBOLS)
    with torch.no_grad():
        first = large(prompt[None])[0, -1].double().softmax(0)
        both = torch.cat([prompt.expand(len(symbols), -1), symbols[:, None]], dim=1)
        exact = (first[:, None] * large(both)[:, -1].double().softmax(1)).flatten()
    counts = torch.zeros_like(exact)
    generator = torch.Generator().manual_seed(7)
    for _ in range(texts):
        readers = draft_text.reader(large), draft_text.reader(little)
        one, two = speculative(*readers, prompt, 2, k=2, generator=generator).tokens.tolist()
        counts[one * charlm.SYMBOLS + two] += 1
    common = exact * texts >= 5
    found, wanted = (torch.cat([x[common], x[~common].sum(0, keepdim=True)]).numpy() for x in (counts, exact * texts))
    p = stats.chisquare(found, wanted * found.sum() / wanted.sum()).pvalue
    return {"p": float(p), "cells": int(common.sum()) + 1}


def predicted(findings: Findings) -> Measured:
    """Return the largest relative difference between tokens per call and what the formula makes of the acceptance."""
    where: dict[str, Any] = {"arm": "distilled"}
    pairs = zip(
        findings.values("text", "tokens per call", **where), findings.values("text", "expected", **where), strict=True
    )
    return Measured(max(abs(a / b - 1) for a, b in pairs))


def ratio(k: int) -> Callable[[Findings], Measured]:
    """Return the CPU time per character over that of plain decoding."""
    return lambda f: f.columns_ratio("text", "with a draft", "plain", arm="distilled", k=k)


CASES = [{"arm": "distilled", "k": k, "seed": seed, "small": False} for k in GUESSES for seed in range(4)]
CASES += [{"arm": "untrained", "k": 4, "seed": seed, "small": False} for seed in range(4)]

CLAIM = Claim(
    part="speculative",
    paper="",
    headline="Decoding is 2 to 3 times faster with identical outputs, without changing or retraining the model.",
    source="Leviathan, Kalman and Matias, 2022, arXiv 2211.17192, abstract (T5-XXL)",
    experiment=(
        "A GPT of four blocks on Python's source code writes on from 20 beginnings, 56 characters each, with a cache, "
        "one text at a time, greedily and by sampling: alone, with a distilled draft of one narrow block, and with an "
        "untrained one, on four seeds. The first two characters of 4,000 texts are compared with their exact "
        "probabilities."
    ),
    baseline="Plain decoding of the same model with the same cache, in turns with the other, in processor time.",
    experiments={
        "text": Measurement(
            write, CASES, [{"arm": a, "k": 4, "seed": 0, "small": True} for a in ("distilled", "untrained")], timed=True
        ),
        "distribution": Measurement(
            distribution,
            [{"arm": arm, "texts": 4000, "small": False} for arm in ("distilled", "untrained")],
            [{"arm": "untrained", "texts": 20, "small": True}],
        ),
    },
    criteria=[
        Criterion(
            "the greedy text is the target's own, character by character, always",
            lambda f: f.smallest("text", "same"),
            at_least=1.0,
        ),
        Criterion(
            "sampled texts have the target's probabilities (chi-square, p at least 0.01, also with an untrained draft)",
            lambda f: f.smallest("distribution", "p"),
            at_least=0.01,
        ),
        Criterion(
            "with four guesses at least two characters for each call of the target",
            lambda f: f.smallest("text", "tokens per call", arm="distilled", k=4),
            at_least=2.0,
        ),
        Criterion(
            "and at most 0.5x of the processor time for a character",
            ratio(4),
            at_most=0.5,
            gain=True,
            paper="0.3x to 0.5x (T5-XXL, one text at a time)",
        ),
        Criterion(
            "it is the draft that does it: an untrained one gives at most 1.3 characters per call",
            lambda f: f.largest("text", "tokens per call", arm="untrained"),
            at_most=1.3,
            control=True,
            positive=True,
        ),
        Criterion(
            "tokens per call are what the acceptance predicts, within 15 %",
            predicted,
            at_most=0.15,
            control=True,
        ),
    ],
    trend={f"processor time, {k} guesses": ratio(k) for k in GUESSES},
    regime=Regime(
        "T5-XXL of 11 billion parameters with drafts of 60M to 800M, translation and summaries",
        "AdamW",
        "linear to zero",
        "batches of text",
        "a target that is much larger than its draft, as there, but so small that a draft costs much",
    ),
    minutes=6,
    limits=(
        "A target of a million weights on one processor: a call of the draft costs a large part of the target's, and "
        "in the paper next to nothing, so that time gains are small beside the calls saved."
    ),
)
