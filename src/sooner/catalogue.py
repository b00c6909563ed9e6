"""The catalogue of source papers: what each does, whom it helps, and what sooner makes of it. Imports no torch."""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from collections.abc import Iterable
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sooner.claims._published import published
from sooner.error import SoonerError

Status = Literal["part + claim", "part, claim pending", "forecast", "planned", "outside what sooner does"]

NEEDS: dict[str, tuple[str, ...]] = {
    "fewer steps": ("faster", "speed", "sooner", "convergence", "iterations", "slow training"),
    "less wall time": ("faster", "speed", "time", "throughput", "slow training"),
    "less memory": ("out of memory", "oom", "ram", "vram", "optimizer state", "offload", "too large", "does not fit"),
    "slow network": ("bandwidth", "communication", "bytes", "compression", "distributed", "federated", "internet"),
    "fewer bits": ("quantization", "quantisation", "low precision", "int8", "4-bit", "bits"),
    "diverges": ("nan", "inf", "spike", "instability", "unstable", "explodes", "blows up", "loss spike"),
    "large batch": ("batch size", "big batch"),
    "no GPU": ("cpu", "laptop", "phone", "without gpu"),
    "little data": ("few data", "small data", "data-constrained", "few labels"),
    "noisy data": ("noise", "outliers", "wrong labels", "imbalance", "data mixture", "curation"),
    "many tasks": ("multi-task", "continual", "forgetting", "several losses"),
    "no backpropagation": ("zeroth order", "gradient-free", "black box", "local learning", "forward only"),
    "less tuning": ("hyper-parameters", "hyperparameters", "learning rate", "schedule-free", "tuning"),
    "fine-tuning": ("finetuning", "adapter", "lora", "alignment"),
    "generalisation": ("generalization", "overfitting", "over-fitting", "test accuracy"),
    "cheaper inference": ("inference", "latency", "serving", "pruning", "deployment"),
    "predict at scale": ("scaling law", "scaling laws", "forecast", "extrapolation", "compute budget"),
    "fewer samples": ("sample efficiency", "data selection"),
    "unreliable machines": ("checkpoint", "failures", "crash", "stragglers", "preemption", "elastic"),
    "privacy": ("differential privacy", "private"),
    "long sequences": ("long context", "sequence length", "recurrent"),
    "reinforcement learning": ("rl", "rlhf", "reward", "policy"),
    "image generation": ("diffusion", "generative", "gan", "images", "flow matching"),
    "understanding": ("theory", "explain", "why", "dynamics"),
}
"""Whom a paper helps, and what a user may type instead."""


FOLDERS = {"federated": "communication", "inference": "decoding"}
"""Stations of the catalogue whose parts live in the folder of another one."""


class Paper(BaseModel):
    """One row.

    Attributes:
        id: short name, unique.
        title: as published.
        year: of the first version.
        arxiv: number, None where there is none or it is not known.
        link: where to read it, or its code.
        station: the station of the training step it belongs to, or another folder of the catalogue.
        method: what it does, in one sentence of ours.
        headline: its own figures, in our words.
        needs: whom it helps, words of `NEEDS`.
        parts: the parts that implement it.
        forecasts: the laws, or the modules of `sooner.forecast`, that implement it.
        planned: "planned" or "outside what sooner does", for papers without either (`status` in the file).
        reason: why it is outside.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str = Field(min_length=5)
    year: int = Field(ge=1950, le=2100)
    arxiv: str | None = Field(None, pattern=r"^\d{4}\.\d{4,5}$")
    link: str = Field(pattern=r"^https://")
    station: str
    method: str = Field(min_length=20, max_length=220)
    headline: str = Field(min_length=10, max_length=200)
    needs: list[str] = Field(min_length=1, max_length=4)
    parts: list[str] = []
    forecasts: list[str] = []
    planned: Literal["planned", "outside what sooner does"] | None = Field(None, alias="status")
    reason: str | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Paper:
        unknown = set(self.needs) - set(NEEDS)
        if unknown:
            raise ValueError(f"needs {sorted(unknown)} are not in the list")
        if (self.planned is None) != bool(self.parts or self.forecasts):
            raise ValueError("a row has parts, forecasts or a status, and a status only without the others")
        if (self.reason is not None) != (self.planned == "outside what sooner does"):
            raise ValueError("a reason belongs to what is outside, and only to that")
        return self

    @property
    def folder(self) -> str:
        """The station of the training step that the first of its parts belongs to."""
        return FOLDERS.get(self.station, self.station)

    @property
    def status(self) -> Status:
        """What sooner makes of it; "part + claim" once every part's claim has published evidence."""
        return self.status_given(published())

    def status_given(self, claims: Iterable[str]) -> Status:
        """Return the status where these are the claims that have evidence."""
        if not self.parts:
            return self.planned or "forecast"
        return "part + claim" if set(self.parts) <= set(claims) else "part, claim pending"


@functools.cache
def load() -> tuple[Paper, ...]:
    """Return every row, in the order of the file."""
    text = resources.files("sooner").joinpath("papers.toml").read_text(encoding="utf-8")
    return tuple(Paper.model_validate(row) for row in tomllib.loads(text)["paper"])


def of_part(name: str) -> Paper | None:
    """Return the paper that a part implements, None for textbook methods."""
    return next((paper for paper in load() if name in paper.parts), None)


def search(query: str) -> list[Paper]:
    """Return the papers in which every word of the query is found, best matches first.

    A phrase that means a need ("out of memory", "bandwidth", "NaN") finds the papers that meet it.

    Raises:
        SoonerError: nothing is found; names what comes nearest.
    """
    phrase = " ".join(query.lower().split())
    for paper in load():
        if phrase == paper.id:
            return [paper]
    meant = _meant(phrase)
    words = re.findall(r"[\w.+-]+", phrase)
    found = []
    for position, paper in enumerate(load()):
        scores = [_score(paper, word) for word in words]
        named = words and min(scores) >= (_NAMED if meant else 1)  # beside a need, words of a sentence prove nothing
        if meant & set(paper.needs) or named:
            found.append((-sum(scores) - 20 * len(meant & set(paper.needs)), position, paper))
    if not found:
        near = difflib.get_close_matches(phrase, _vocabulary(), n=3, cutoff=0.6)
        hint = f" (did you mean {' or '.join(repr(word) for word in near)}?)" if near else ""
        raise SoonerError(
            f"no paper is found for {query!r}{hint}; try a word of a title, a station, a part, or a need such as "
            "'less memory'"
        )
    return [paper for _, _, paper in sorted(found, key=lambda item: item[:2])]


def _meant(phrase: str) -> set[str]:
    """Return the needs that a phrase names or paraphrases."""
    padded = f" {phrase} "
    return {need for need, others in NEEDS.items() if any(f" {word} " in padded for word in (need.lower(), *others))}


_NAMED = 4
"""The least score of a word that stands in a paper's id, parts, title or station."""


def _score(paper: Paper, word: str) -> int:
    """Return how well a word fits a paper: 0 where it is found nowhere."""
    places = (
        (8, paper.id),
        (6, " ".join((*paper.parts, *paper.forecasts))),
        (5, paper.title),
        (4, paper.station),
        (3, paper.status),
        (2, " ".join(paper.needs)),
        (1, f"{paper.method} {paper.headline} {paper.arxiv} {paper.year}"),
    )
    return sum(weight for weight, text in places if word in text.lower())


@functools.cache
def _vocabulary() -> list[str]:
    words = {w for p in load() for w in (p.id, p.station, *p.parts, *re.findall(r"[a-z]{5,}", p.title.lower()))}
    return sorted(words | set(NEEDS) | {other for others in NEEDS.values() for other in others})
