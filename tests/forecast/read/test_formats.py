"""Every format of the list reads back the truth it was written from, and no damage to a file ends in a traceback."""

import os
import random
import warnings

import numpy as np
import pytest
from formats import FORMATS, Truth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sooner.error import SoonerError
from sooner.forecast.read import read

FILES = 5 * int(os.environ.get("SOONER_FUZZ", "0")) or 60
"""Damaged files that are read."""


def truth(count, first, gap, floor, seed):
    steps = first + gap * np.arange(count)
    training = floor + 4 * steps**-0.35
    rates = 1e-3 * (1 - np.arange(count) / (2 * count))
    return Truth(steps, training, training + 0.05 + 0.01 * np.random.default_rng(seed).random(count), rates.round(6))


def check(folder, name, known):
    """Write a truth in a format, read it back, and compare."""
    kind = FORMATS[name]
    text = kind.write(known)
    path = folder / kind.file
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = read([path], curve=True)
    count = len(known.steps)
    steps = np.arange(1.0, count + 1) if kind.axis == "epoch" else known.steps * kind.factor
    np.testing.assert_allclose(found["step"], steps)
    assert len(found.runs) == 1
    loss = known.validation if kind.loss == "validation" else known.training
    np.testing.assert_allclose(found["loss"], loss * kind.scale, atol=max(0.51 * 10.0**-kind.places, 1e-5))
    assert ("lr" in found) == kind.rates
    if kind.rates:
        np.testing.assert_allclose(found["lr"], known.rates, rtol=6e-3, atol=6e-6)
    assert any(f"{count} rows of 1 run" in note for note in found.notes)
    path.unlink()


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_reads_back_its_truth(name, tmp_path):
    check(tmp_path, name, truth(12, 10, 10, 2.0, 0))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(list(FORMATS)),
    count=st.integers(6, 30),
    first=st.integers(1, 90),
    gap=st.integers(1, 500),
    floor=st.floats(0.5, 3),
)
def test_any_truth_is_read_back(name, tmp_path, count, first, gap, floor):
    check(tmp_path, name, truth(count, first, gap, floor, count))


def test_the_list_is_long():
    assert len(FORMATS) >= 100


def damaged(text: bytes, dice: random.Random) -> bytes:
    """Return a file with a few of the faults that files have."""
    odd = [
        b"nan",
        b"inf",
        b"-",
        b"",
        b"1e999",
        b"9" * 400,
        b"\0",
        b"\xff",
        b"\n",
        b"\r",
        b",",
        b"{",
        b"}",
        b'"',
        b"[",
        b"|",
        b"0",
        b"-1",
        b"1,2,3",
        b"\x1b[31m",
        "é".encode(),
        b"#",
        b":",
        b"/",
        b"k",
        b"%",
        b" ",
    ]
    for _ in range(dice.randint(1, 6)):
        if not text:
            break
        a, b = sorted(dice.randrange(len(text) + 1) for _ in range(2))
        b = min(b, a + dice.choice([1, 3, 20, 200]))
        lines = text.split(b"\n")
        kind = dice.randrange(7)
        if kind == 0:
            text = text[:a] + text[b:]
        elif kind == 1:
            text = text[:a] + dice.choice(odd) + text[a:]
        elif kind == 2:
            text = text[:a] + dice.choice(odd) + text[b:]
        elif kind == 3:
            text = text[:a]
        elif kind == 4:
            text = text[:b] + text[a:]
        elif kind == 5:
            dice.shuffle(lines)
            text = b"\n".join(lines)
        else:
            text = text[:a] + dice.randbytes(b - a) + text[b:]
    return text


def test_no_damage_ends_in_a_traceback(tmp_path):
    dice = random.Random(None if "SOONER_FUZZ" in os.environ else 0)
    known = truth(12, 10, 10, 2.0, 0)
    names = list(FORMATS)
    read_back, sentences = 0, []
    for at in range(FILES):
        kind = FORMATS[names[at % len(names)] if len(names) <= FILES else dice.choice(names)]
        text = kind.write(known)
        file = kind.file if dice.random() < 0.8 else dice.choice(["a.csv", "a.jsonl", "a.json", "a.log", "a"])
        path = tmp_path / file
        path.write_bytes(damaged(text if isinstance(text, bytes) else text.encode(), dice))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = read([path], curve=dice.random() < 0.5)
        except SoonerError as error:
            sentences.append(str(error))
        except Exception:
            print(f"damaged {kind.file} as {file}: {path.read_bytes()[:2000]!r}")
            raise
        else:
            read_back += 1
            if "loss" in found:
                assert ((found["loss"] > 0) & (found["loss"] < np.inf)).all()
        path.unlink()
    assert not [one for one in sentences if "\n" in one]
    print(f"{read_back} of {FILES} damaged files were read, the others refused in one sentence")
