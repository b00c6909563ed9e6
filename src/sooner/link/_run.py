"""Runs a command once per rank, behind links of a given rate, and says what each rank sent and how it ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sooner.error import SoonerError
from sooner.link._lab import Lab
from sooner.link._model import LinkModel

_ROOT = Path(__file__).parents[2]
_START = "import sys; sys.path.insert(0, sys.argv[1]); from sooner.link._supervisor import main; main(int(sys.argv[2]))"
_NAMESPACES = ("--net", "--pid", "--mount", "--fork", "--kill-child")


@dataclass(frozen=True)
class Rank:
    """What became of a rank.

    Attributes:
        rank: its number.
        code: exit code, negative for the signal that ended it.
        seconds: from the start of all ranks to its end.
        sent, received: bytes on its interface, headers included; None where they can't be counted.
        last: the last line that it wrote, on standard error if it wrote anything there.
        killed: it was to be killed.
        stopped: it was ended because another rank had failed or time was up.
    """

    rank: int
    code: int
    seconds: float
    sent: float | None
    received: float | None
    last: str
    killed: bool
    stopped: bool

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self.code < 0:
            name = signal.Signals(-self.code).name
            why = " as --kill asked" if self.killed else ", ended with the others" if self.stopped else ""
            return f"killed by {name}{why}"
        return f"ended with exit code {self.code}" + (", ended with the others" if self.stopped else "")

    @property
    def said(self) -> str:
        """Its last line, behind a colon."""
        return f": {self.last}" if self.last else ""


@dataclass(frozen=True)
class Run:
    """What became of a run.

    Attributes:
        lab: the network.
        ranks: what became of each.
        refusal: why there were no namespaces, so that the link is modelled; None where it was real.
    """

    lab: Lab
    ranks: tuple[Rank, ...]
    refusal: str | None = None

    @property
    def measured(self) -> bool:
        """Whether the ranks ran behind real links."""
        return self.refusal is None

    @property
    def seconds(self) -> float:
        """From the start to the end of the last rank; without namespaces, what the model adds for the link included."""
        return max(self.seconds_of(rank) for rank in self.ranks)

    def seconds_of(self, rank: Rank) -> float:
        """Return the seconds that a rank took, what the model adds for the link included."""
        if self.measured or self.lab.rate is None or rank.sent is None:
            return rank.seconds
        return rank.seconds + LinkModel(self.lab.rate).seconds(rank.sent, messages=0)

    @property
    def failed(self) -> tuple[Rank, ...]:
        """The ranks that failed, the first to do so first."""
        failed = (rank for rank in self.ranks if rank.code)
        return tuple(sorted(failed, key=lambda rank: (rank.stopped, 0.0 if rank.stopped else rank.seconds)))

    @property
    def failure(self) -> str | None:
        """What went wrong, in a sentence that names the rank; None where nothing did."""
        if not self.failed:
            return None
        first, *others = self.failed
        told = f"rank {first.rank} {first.ending} after {first.seconds:.1f} s{first.said}"
        if first.stopped:
            told = f"rank {first.rank} had not ended after {self.lab.timeout:g} s, the --timeout, and was ended"
            verb = "was" if len(others) == 1 else "were"
            also = [f"so {verb} {_named([one.rank for one in others])}"] if others else []
        else:
            alike: dict[str, list[int]] = {}
            for one in others:
                news = one.said if one.code > 0 and one.said != first.said else ""
                alike.setdefault(f"{one.ending}{news}", []).append(one.rank)
            also = [f"{_named(ranks)} {ending}" for ending, ranks in alike.items()]
        cuts = [cut.told for cut in self.lab.cuts if cut.at <= first.seconds]
        return "; ".join([*cuts, told, *also])

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "link": "measured" if self.measured else "modelled",
            "refusal": self.refusal,
            "lab": asdict(self.lab),
            "seconds": self.seconds,
            "ranks": [asdict(rank) | {"seconds_on_link": self.seconds_of(rank)} for rank in self.ranks],
            "failure": self.failure,
        }


def _named(ranks: Sequence[int]) -> str:
    *most, last = map(str, ranks)
    return f"ranks {', '.join(most)} and {last}" if most else f"rank {last}"


def run(command: Sequence[str], lab: Lab, echo: str = "print") -> Run:
    """Run `command` once per rank of the lab, with the environment that torchrun would give it.

    Args:
        command: the program and its arguments.
        lab: the network.
        echo: where the ranks' output goes: "print", "stderr", "hide".

    Returns:
        What became of the ranks. Where namespaces are not allowed, the ranks run on the loopback interface, and the
        link is modelled.

    Raises:
        SoonerError: there is no command, or a program is missing.
    """
    if not command:
        raise SoonerError("there is no command to run; write one after --, as in: sooner link -- python train.py")
    if shutil.which(command[0]) is None:
        raise SoonerError(f"there is no program {command[0]!r}; write the command as in: -- python train.py")
    ways, refusal = _ways()
    if ways:
        _check_tools(lab)
    for way in ways:
        answer = _supervised(way, command, lab, echo)
        if "refused" not in answer:
            return _told(answer, command, lab, None)
        refusal = answer["refused"]
    if lab.loss or lab.cuts:
        raise SoonerError(
            f"this system refuses network namespaces ({refusal}), and without them no packet can be lost and no link "
            "cut; leave --loss and --cut away, or run this where they are allowed"
        )
    return _told(_supervised((), command, lab, echo), command, lab, refusal)


def _ways() -> tuple[list[tuple[str, ...]], str]:
    """Return the ways to get namespaces here, best first, and what was said where there are none."""
    if not sys.platform.startswith("linux"):
        return [], "they exist on Linux only"
    program = shutil.which("unshare")
    if program is None:
        return [], "the program unshare of util-linux is missing"
    rootless: tuple[str, ...] = (program, "--user", "--map-root-user", *_NAMESPACES)
    ways, said = [], ""
    for way in ([(program, *_NAMESPACES)] if os.geteuid() == 0 else []) + [rootless]:
        done = subprocess.run([*way, "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            ways.append(way)
        said = said or " ".join(done.stderr.split())
    return ways, said


def _check_tools(lab: Lab) -> None:
    if missing := [name for name in ("ip", "tc") if shutil.which(name) is None]:
        raise SoonerError(f"the program {missing[0]} of iproute2 is missing; install it, as with: apt install iproute2")
    if lab.loss and shutil.which("iptables") is None:
        raise SoonerError("--loss needs iptables, which is missing; install it, as with: apt install iptables")


def _supervised(way: Sequence[str], command: Sequence[str], lab: Lab, echo: str) -> dict[str, Any]:
    """Start the supervisor and return its answer."""
    told, answers = os.pipe()
    try:
        process = subprocess.Popen(
            [*way, sys.executable, "-c", _START, str(_ROOT), str(answers)],
            stdin=subprocess.PIPE,
            pass_fds=(answers,),
            start_new_session=True,  # Ctrl-C reaches us alone, and we end it
        )
    finally:
        os.close(answers)
    assert process.stdin is not None
    with os.fdopen(told, encoding="utf-8") as answer, process.stdin:
        try:
            order = asdict(lab) | {"command": list(command), "echo": echo, "real": bool(way)}
            process.stdin.write((json.dumps(order) + "\n").encode())
            process.stdin.flush()
            text = answer.read()
        except BrokenPipeError:
            text = ""
        finally:
            process.stdin.close()  # whatever still runs ends with this
            process.wait()
    if not text:
        raise SoonerError(
            f"the process that held the network ended without an answer (exit code {process.returncode}), and all "
            "ranks with it; run the command again"
        )
    made: dict[str, Any] = json.loads(text)
    return made


def _told(answer: dict[str, Any], command: Sequence[str], lab: Lab, refusal: str | None) -> Run:
    if "broken" in answer:
        raise SoonerError(
            f"{command[0]!r} can't be started: {answer['broken']}; write the command as in: -- python train.py"
        )
    return Run(lab, tuple(Rank(**one) for one in answer["ranks"]), refusal)
