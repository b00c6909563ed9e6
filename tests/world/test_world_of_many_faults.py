"""Of three ranks the one that keeps the rendezvous is frozen; `test_lookout.py` has the others."""

import re
import signal
from pathlib import Path

HERE = Path(__file__).parent
GOES_ON = r"start all workers again, and they go on from step 6, the last complete checkpoint in \S+"
KEEPER = rf"rank 0, which keeps the rendezvous, or the network to it, is gone; {GOES_ON}"


def command(checkpoint, timeout):
    parts = ["--parts", "sgd(lr=0.05) + random_k(ratio=0.2) + ef", "--timeout", timeout]
    return ["-m", "sooner", "train", HERE / "plane_task.py", *parts, "--checkpoint", checkpoint, "--save-every", 6]


def test_every_survivor_names_it_and_the_run_goes_on_with_two(ranks, tmp_path):
    three = ranks(command(tmp_path / "run", 12), 3, FAULT="freeze 0 8")
    assert three.codes(1, 2) == [2, 2]
    for rank in (1, 2):  # without the store they can't agree on who tells
        assert re.fullmatch(f"sooner: {KEEPER}", " ".join(three.said(rank).split()))
    assert three.said(0) == ""
    three.processes[0].kill()
    assert three.codes() == [-signal.SIGKILL, 2, 2]
    again = ranks(command(tmp_path / "run", 600), 2)
    assert again.codes() == [0, 0], again.said(0) + again.said(1)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["step-24"]
