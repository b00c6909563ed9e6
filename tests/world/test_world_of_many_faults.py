"""A rank of three that is frozen: the middle one, or the one that keeps the rendezvous."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GOES_ON = r"start all workers again, and they go on from step 6, the last complete checkpoint in \S+"
KEEPER = rf"rank 0, which keeps the rendezvous, or the network to it, is gone; {GOES_ON}"
MIDDLE = rf"rank \d is gone: no sign of life after exchange \d+; {GOES_ON}"


class Forked:
    """Some ranks that train a plane, with a fault of one of them."""

    def __init__(self, folder, checkpoint, count, fault=""):
        self.folder, self.count = folder, count
        words = ["train", HERE / "plane_task.py", "--parts", "sgd(lr=0.05) + random_k(ratio=0.2) + ef", "--timeout", 20]
        words += ["--checkpoint", checkpoint, "--save-every", 6]
        environment = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "forked_ranks.py"), str(folder), str(count), *map(str, words)],
            env={**os.environ, **environment, "OMP_NUM_THREADS": "1", "FAULT": fault},
            stdout=subprocess.PIPE,
            text=True,
        )

    def codes(self):
        return json.loads(self.process.communicate()[0])

    def said(self):
        """What the ranks wrote to standard error, for those that wrote anything."""
        texts = [" ".join((self.folder / f"err-{rank}").read_text().split()) for rank in range(self.count)]
        return {rank: text for rank, text in enumerate(texts) if text}


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    started = []

    def start(*what):
        started.append(Forked(tmp_path_factory.mktemp("ranks"), *what))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


FAULTS = {"middle": (3, "freeze 1 8"), "keeper": (3, "freeze 0 8")}


@pytest.fixture(scope="module")
def lost(forked, tmp_path_factory):
    """All runs that lose a rank, at the same time: {name: (ranks, checkpoint folder)}."""
    folders = {name: tmp_path_factory.mktemp("checkpoints") / "run" for name in FAULTS}
    return {name: (forked(folders[name], count, fault), folders[name]) for name, (count, fault) in FAULTS.items()}


@pytest.mark.parametrize("name", FAULTS)
def test_the_right_rank_is_named_and_the_run_goes_on_with_two(lost, forked, name):
    ranks, folder = lost[name]
    count, fault = FAULTS[name]
    victim = int(fault.split()[1])
    assert ranks.codes() == [-signal.SIGKILL if rank == victim else 2 for rank in range(count)]
    said = ranks.said()
    for text in said.values():
        assert re.fullmatch(f"sooner: {MIDDLE if victim else KEEPER}", text)
        assert text.startswith(f"sooner: rank {victim}")
    assert len(said) == (1 if victim else count - 1)  # without the store they can't agree on who tells
    again = forked(folder, 2)
    assert again.codes() == [0, 0], again.said()
    assert [path.name for path in folder.iterdir()] == ["step-24"]
