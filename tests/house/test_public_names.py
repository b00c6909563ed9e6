"""Everything that the package promises is there after ``import sooner`` alone."""

import subprocess
import sys

import sooner

PROGRAM = """
import sooner
for name in sooner.__all__:
    getattr(sooner, name)
for station in (sooner.update, sooner.gradient, sooner.loss, sooner.schedule, sooner.communication):
    for name in station.__all__:
        getattr(station, name)
"""


def test_every_public_name_loads():
    assert subprocess.run([sys.executable, "-c", PROGRAM], check=False).returncode == 0
    assert {"update", "gradient", "loss", "schedule", "communication"} <= set(sooner.__all__)
