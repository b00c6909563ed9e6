"""How much processor time `sooner --help` takes. Target: 0.3 s.

    python benchmarks/help_time.py [--runs 10]

To see what the time goes into: python -X importtime -c "import sooner.cli" 2>&1 | sort -t'|' -k2 -n
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

import cyclopts

COMMAND = [sys.executable, "-c", "from sooner.cli import main; main()", "--help"]
BARE = [sys.executable, "-c", "pass"]


def processor_seconds(command: list[str]) -> float:
    """Run a command and return the user and system seconds it used."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main(*, runs: int = 10) -> None:
    for name, command in (("sooner --help", COMMAND), ("python alone", BARE)):
        processor_seconds(command)  # fills the disk cache
        taken = [processor_seconds(command) for _ in range(runs)]
        middle = statistics.median(taken)
        print(f"{name}: {min(taken):.3f} s at best, {middle:.3f} s median of {runs}, {max(taken):.3f} s at worst")


if __name__ == "__main__":
    cyclopts.run(main)
