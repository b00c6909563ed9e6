"""What the tests cost, folder by folder, for `docs/tests.md`.

    python tests/price.py                   run all of them on two cores, as `make test` does, and rewrite the table
    python tests/price.py tests/race ...    the same for some of them, without rewriting it; `-n 0` takes one process

Both also print which single tests were the dearest.

As a plugin of pytest (`-p price`) it notes what each test took, in a file per worker of the folder $SOONER_PRICE.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tests.md"
BEGIN, END = "<!-- the table is written by tests/price.py -->", "<!-- the end of the table -->"
OPTIONS = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")


TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds():
    """What this process has used, with all that it has started and that they have: what lives and what has ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used) + sum(map(of_tree, children(os.getpid())))


def children(process):
    """The ids of the living processes that a process has started."""
    with suppress(OSError):  # it has just ended
        return [
            int(one)
            for thread in Path(f"/proc/{process}/task").iterdir()
            for one in (thread / "children").read_text().split()
        ]
    return []


def of_tree(process):
    """Seconds of the processor of a process, of what it has waited for, and of its children that live."""
    with suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / TICKS + sum(map(of_tree, children(process)))
    return 0.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    wall, processor = time.monotonic(), processor_seconds()
    try:
        return (yield)
    finally:
        row = [item.nodeid, time.monotonic() - wall, processor_seconds() - processor]
        file = Path(os.environ["SOONER_PRICE"], os.environ.get("PYTEST_XDIST_WORKER", "alone"))
        with file.open("a", encoding="utf-8") as rows:
            rows.write(json.dumps(row) + "\n")


def table(rows, wall):
    """The table of a run, in Markdown: folders by what they cost, then the dearest tests."""
    folders, files = defaultdict(list), defaultdict(list)
    for name, seconds, processor in rows:
        folders[name.split("/")[1]].append((seconds, processor))
        files[name.partition("::")[0].removeprefix("tests/")].append((seconds, processor))
    lines = ["| folder | tests | seconds | of the processor |", "|---|--:|--:|--:|"]
    for name, some in sorted(folders.items(), key=lambda one: -sum(s for s, _ in one[1])):
        lines.append(f"| {name} | {len(some)} | {sum(s for s, _ in some):.0f} | {sum(p for _, p in some):.0f} |")
    total = [value for some in folders.values() for value in some]
    sums = f"{sum(s for s, _ in total):.0f} | {sum(p for _, p in total):.0f}"
    lines += [f"| all | {len(total)} | {sums} |", "", f"On two cores that was {wall:.0f} seconds.", ""]
    lines += ["| the dearest files | tests | seconds | of the processor |", "|---|--:|--:|--:|"]
    for name, some in sorted(files.items(), key=lambda one: -sum(s for s, _ in one[1]))[:12]:
        lines.append(f"| {name} | {len(some)} | {sum(s for s, _ in some):.0f} | {sum(p for _, p in some):.0f} |")
    return "\n".join(lines)


def dearest(rows, count=30):
    """The tests that took the most of the processor, a line each."""
    most = sorted(rows, key=lambda row: -row[2])[:count]
    return "\n".join(f"{processor:6.1f} s of the processor, {wall:6.1f} s: {name}" for name, wall, processor in most)


def main(what):
    with tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "SOONER_PRICE": folder, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        begun = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-p", "price", *OPTIONS, *what]
        code = subprocess.run(command, cwd=ROOT, env=environment).returncode
        wall = time.monotonic() - begun
        rows = [json.loads(line) for file in Path(folder).iterdir() for line in file.read_text().splitlines()]
    made = table(rows, wall)
    print(made, dearest(rows), sep="\n\n")
    if not what and not code:
        text = PAGE.read_text(encoding="utf-8")
        new = re.sub(f"(?s)(?<={re.escape(BEGIN)}\n).*(?={re.escape(END)})", lambda _: f"\n{made}\n\n", text)
        PAGE.write_text(new, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
