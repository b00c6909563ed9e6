"""Who is lost when an exchange fails: every rank gives signs of life in the rendezvous store, and survivors compare.

A rank notes there how many exchanges it has entered, twice a second and from a thread of its own, so that the note goes
on while the rank computes. When an exchange fails or takes too long, the survivors look at the notes: a rank whose note
stands still is gone (dead, frozen or cut off), one whose note goes on but which has entered fewer exchanges hangs. Who
sees all other notes stand still, or no longer reaches the store, may be cut off itself, and says so.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch.distributed as dist

from sooner.error import SoonerError

BEAT_SECONDS = 0.5
GRACE_SECONDS = 4.0
"""A note that stands still for this long is that of a rank that is gone."""

KEEPER_GONE = "rank 0, which keeps the rendezvous, or the network to it, is gone"

_FINISHED = "had finished"

_found: list[tuple[Any, Lookout]] = []


class RankLostError(SoonerError):
    """An exchange can't go on because a rank is lost; the text names it."""


def lookout() -> Lookout | None:
    """Return this process's lookout over the default process group; None where there is no group."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    if not _found or _found[0][0] is not dist.group.WORLD:
        close()
        _found.append((dist.group.WORLD, Lookout(_default_store(), dist.get_rank(), dist.get_world_size())))
    return _found[0][1]


def close() -> None:
    """Give no more signs of life; for who destroys the process group and goes on."""
    for _, one in _found:
        one.stop()
    _found.clear()


class Lookout:
    """Gives this rank's signs of life, and names the rank that is lost when an exchange fails.

    Args:
        store: the store of the rendezvous.
        rank: of this process.
        size: number of processes.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.entered = 0
        self.ends_process = False
        """Whether this process is ended when the others have given up on it, because nobody else would."""
        self.advice: Callable[[], str] | None = None
        """What to do when a rank is lost, as the end of a sentence."""
        self.speaks = True
        """Whether this rank was the first to find out; the others need not say the same."""
        self._heard = ""
        self._judging = threading.Event()
        self._over = threading.Event()
        self._store = dist.distributed_c10d.PrefixStore("sooner", store)
        # a connection of its own, as a request that waits would hold up the signs of life
        self._beats = dist.distributed_c10d.PrefixStore("sooner", _own(store))
        self._store.set(f"beat/{rank}", "0 0")
        threading.Thread(target=self._beat, daemon=True).start()
        atexit.register(self.leave)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Inside is one exchange.

        Raises:
            RankLostError: it failed because a rank is lost.
            SoonerError: it failed though all ranks live.
        """
        self.entered += 1
        try:
            yield
        except RuntimeError as error:  # what torch.distributed raises on all backends
            raise self.judge(str(error)) from error

    def leave(self, cause: str | None = None) -> None:
        """Tell the others that this rank takes part no longer, and why; None for the end of the process."""
        if self._over.is_set():
            return
        self._over.set()
        if cause is None:
            last = getattr(sys, "last_value", None)  # what ended the process, where something did
            cause = _FINISHED if last is None else f"stopped ({type(last).__name__}: {last})"
        with contextlib.suppress(RuntimeError):  # the keeper of the store may be gone
            self._store.set(f"left/{self.rank}", cause[:500])
            if cause != _FINISHED:
                self._decide([f"rank {self.rank} {cause[:500]}"])
                self._linger()

    def _linger(self) -> None:
        """Keep the store, where this rank does, until the others have heard: it goes when this process ends."""
        if self.rank == 0:
            time.sleep(3 * BEAT_SECONDS)

    def stop(self) -> None:
        """Give no more signs of life, without a word to the others."""
        self._over.set()
        atexit.unregister(self.leave)

    @property
    def judging(self) -> bool:
        """Whether this rank already knows that somebody is lost."""
        return self._judging.is_set()

    def judge(self, failure: str) -> SoonerError:
        """Return the error that says who is lost.

        Args:
            failure: what the backend said.
        """
        self._judging.set()
        verdict: list[str] = []

        def ask() -> None:
            with contextlib.suppress(RuntimeError):
                verdict.append(self._heard or self._verdict())
                self.speaks = self._store.add("spoken", 1) == 1

        thread = threading.Thread(target=ask, daemon=True)  # a store that can't be reached may never answer
        thread.start()
        thread.join(3 * GRACE_SECONDS)
        if verdict and not verdict[0]:
            first = failure.strip().splitlines()[0] if failure.strip() else "no reason was given"
            self.leave(f"stopped in exchange {self.entered} ({first[:200]})")
            return SoonerError(
                f"exchange {self.entered} failed on rank {self.rank} though all {self.size} ranks live "
                f"({first[:200]}); check the network between them"
            )
        self._over.set()  # the end of this process is no departure that the others should hear of
        if verdict:
            self._linger()
        return RankLostError(verdict[0] if verdict else self._heard or KEEPER_GONE)

    def _verdict(self) -> str:
        """Return who is lost, empty for nobody; the first rank to find out decides, so that all say the same."""
        self._store.set(f"failed/{self.rank}", str(self.entered))
        others = [r for r in range(self.size) if r != self.rank]
        seen = {r: self._beat_of(r) for r in others}
        alive: set[int] = set()
        end = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < end:
            if self._store.check(["verdict"]):
                return self._decided()
            left = {r: self._store.get(f"left/{r}").decode() for r in others if self._store.check([f"left/{r}"])}
            if left:
                return self._decide([f"rank {r} {cause}" for r, cause in left.items()])
            alive |= {r for r in others if self._store.check([f"failed/{r}"])}
            if len(alive) == len(others):
                break
            time.sleep(BEAT_SECONDS / 2)
        now = {r: self._beat_of(r) for r in others}
        gone = [r for r in others if r not in alive and now[r][0] == seen[r][0]]
        if gone == others:
            return self._decide([self._alone(max(entered for _, entered in now.values()))])
        if gone:
            return self._decide([f"rank {r} is gone: no sign of life after exchange {now[r][1]}" for r in gone])
        behind = [r for r in others if r not in alive and now[r][1] < self.entered]
        return self._decide(
            [f"rank {r} hangs: it lives but has not come to exchange {now[r][1] + 1} in time" for r in behind]
        )

    def _alone(self, last: int) -> str:
        """Return what can be said where nobody else gives signs of life: it may be this rank that is cut off."""
        if self.size == 2:
            who = f"rank {1 - self.rank}, or the network to it, is gone"
        else:
            who = f"all ranks but {self.rank}, or the network of rank {self.rank}, are gone"
        return f"{who}: no sign of life after exchange {last}"

    def _decide(self, lost: list[str]) -> str:
        if not lost:
            return ""
        self._store.compare_set("verdict", "", ", ".join(lost))
        return self._decided()

    def _decided(self) -> str:
        return str(self._store.get("verdict").decode())

    def _beat_of(self, rank: int) -> tuple[int, int]:
        if not self._store.check([f"beat/{rank}"]):
            return -1, 0
        number, entered = self._store.get(f"beat/{rank}").split()
        return int(number), int(entered)

    def _beat(self) -> None:
        number = 0
        while not self._over.wait(BEAT_SECONDS):
            number += 1
            try:
                self._beats.set(f"beat/{self.rank}", f"{number} {self.entered}")
                self._heard = self._beats.get("verdict").decode() if self._beats.check(["verdict"]) else ""
                lost = self._heard
            except RuntimeError:
                lost = KEEPER_GONE
            if lost:
                self._end(lost)
                return

    def _end(self, text: str) -> None:
        """End a process whose main thread does not find out itself that the others have gone."""
        if self._over.wait(3 * GRACE_SECONDS) or self._judging.is_set() or not self.ends_process:
            return
        with contextlib.suppress(OSError):  # the folder of the checkpoints may be gone with its machine
            text += f"; {self.advice()}" if self.advice else ""
        print(f"sooner: rank {self.rank} ends: {text}", file=sys.stderr, flush=True)
        os._exit(2)


def _default_store() -> Any:
    return dist.distributed_c10d._get_default_store()


def _own(store: Any) -> Any:
    try:
        return store.clone()
    except (RuntimeError, AttributeError):  # a store that is written in Python, or torch's fake one
        return store
