"""How a part is found by its name."""

import subprocess
import sys

import pytest

import sooner
from sooner import part


@pytest.mark.parametrize("name", part.names())
def test_every_file_of_a_station_is_a_part(name):
    found = part.load(name)
    assert issubclass(found, part.Part)
    assert found.station == part.names()[name]
    assert found.name() == name
    assert getattr(getattr(sooner, found.station), found.__name__) is found
    assert found.__name__ in getattr(sooner, found.station).__all__
    assert 20 < len(part.summary(name)) < 240


def test_an_unknown_name_gets_the_nearest_one():
    for ask in (part.load, part.summary):
        with pytest.raises(
            sooner.SoonerError, match=r"no part named 'adamv' \(did you mean 'adamw'\?\); `sooner parts`"
        ):
            ask("adamv")
    with pytest.raises(AttributeError, match=r"module 'sooner\.update' has no attribute 'Adamw'"):
        _ = sooner.update.Adamw


def test_importing_a_parts_file_by_name_gives_the_file_and_looking_it_up_loads_no_torch():
    script = """
import sys
import sooner
from sooner import part
assert part.summary("muon") and "muon" in part.names()
assert "torch" not in sys.modules
from sooner.update import adamw, AdamW
assert adamw.AdamW is AdamW, adamw
"""
    subprocess.run([sys.executable, "-c", script], check=True)
