"""Of three ranks the one that keeps the rendezvous is frozen; `test_lookout.py` has the others."""

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


class Forked:
    """Some ranks that train a plane, with a fault of one of them."""

    def __init__(self, folder, checkpoint, count, fault=""):
        self.folder, self.count = folder, count
        words = ["train", HERE / "plane_task.py", "--parts", "sgd(lr=0.05) + random_k(ratio=0.2) + ef", "--timeout", 12]
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


def test_every_survivor_names_it_and_the_run_goes_on_with_two(forked, tmp_path):
    ranks = forked(tmp_path / "run", 3, "freeze 0 8")
    assert ranks.codes() == [-signal.SIGKILL, 2, 2]
    said = ranks.said()
    assert len(said) == 2  # without the store they can't agree on who tells
    for text in said.values():
        assert re.fullmatch(f"sooner: {KEEPER}", text)
    again = forked(tmp_path / "run", 2)
    assert again.codes() == [0, 0], again.said()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["step-24"]
