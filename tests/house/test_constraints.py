"""constraints.txt pins, exactly and without a gap, what the environments of the Makefile are made of."""

import importlib.metadata
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]
LINES = [line for line in (CHECKOUT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINS = {canonicalize_name(one.name): one for one in map(Requirement, LINES)}
PYPROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
TORCH_ADDS = ("nvidia-", "cuda-", "triton")
"""The packages that only some builds of torch ask for; torch pins them itself."""


def asked_for() -> list[Requirement]:
    """Return everything that pyproject.toml names."""
    project = PYPROJECT["project"]
    groups = [PYPROJECT["build-system"]["requires"], project["dependencies"]]
    groups += [*project["optional-dependencies"].values(), *PYPROJECT["dependency-groups"].values()]
    return [Requirement(text) for group in groups for text in group if isinstance(text, str)]  # else a whole group


def needed_by(name: str) -> list[str]:
    """Return the installed packages that an installed package needs here."""
    needs = map(Requirement, importlib.metadata.requires(name) or [])
    return [canonicalize_name(one.name) for one in needs if not one.marker or one.marker.evaluate({"extra": ""})]


def test_every_pin_is_one_exact_version():
    assert len(PINS) == len(LINES)
    for pin in PINS.values():
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
        assert "*" not in specifier.version
        assert "+" not in specifier.version, "a local version such as +cpu exists on some machines only"
        assert pin.marker is None


@pytest.mark.parametrize("wanted", [one for one in asked_for() if not one.name.startswith(TORCH_ADDS)], ids=str)
def test_what_the_project_asks_for_is_pinned_within_its_range(wanted):
    (specifier,) = PINS[canonicalize_name(wanted.name)].specifier
    assert wanted.specifier.contains(specifier.version)


def test_what_the_dependencies_need_is_pinned_too():
    installed = {canonicalize_name(one.name) for one in importlib.metadata.distributions()}
    waiting = [name for one in asked_for() if (name := canonicalize_name(one.name)) in installed]
    assert "torch" in waiting
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen and not name.startswith(TORCH_ADDS):
            seen.add(name)
            waiting += [need for need in needed_by(name) if need in installed]
    assert sorted(seen - PINS.keys()) == []
