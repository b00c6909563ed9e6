"""A rank that is lost: who says so, what the others do, and how the run goes on."""

import re
import signal
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
TASK = HERE / "plane_task.py"


def command(checkpoint, *more, codec="top_k"):
    parts = ["--parts", f"sgd(lr=0.05) + {codec}(ratio=0.2) + ef"]
    return ["-m", "sooner", "train", TASK, *parts, "--checkpoint", checkpoint, "--save-every", 6, *more]


@pytest.fixture(scope="module")
def lost(ranks, tmp_path_factory):
    """All runs that lose a rank, at the same time: {name: (processes, checkpoint folder)}."""
    faults = {
        "killed": "kill 1 8",
        "killed while it saves": "kill-in-save 1 11",
        "the one that keeps the rendezvous": "kill 0 8",
        "raised": "raise 1 8",
        "hangs": "hang 1 8",
    }
    started = {}
    for name, fault in faults.items():
        folder = tmp_path_factory.mktemp("checkpoints") / "run"
        more = ["--timeout", 20] if name == "hangs" else []
        started[name] = ranks(command(folder, *more), FAULT=fault), folder
    folder = tmp_path_factory.mktemp("checkpoints") / "run"
    three = command(folder, "--timeout", 12, codec="random_k")
    started["frozen, of three"] = ranks(three, 3, FAULT="freeze 0 8"), folder
    return started


GOES_ON = r"start all workers again, and they go on from step 6, the last complete checkpoint in \S+"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("killed", rf"rank 1, or the network to it, is gone: no sign of life after exchange \d+; {GOES_ON}"),
        (
            "killed while it saves",
            rf"rank 1, or the network to it, is gone: no sign of life after exchange \d+; {GOES_ON}",
        ),
        ("raised", rf"rank 1 stopped \(ZeroDivisionError: nothing to divide by\); {GOES_ON}"),
        ("hangs", rf"rank 1 hangs: it lives but has not come to exchange \d+ in time; {GOES_ON}"),
        ("the one that keeps the rendezvous", rf"rank 0, which keeps the rendezvous, .* is gone; {GOES_ON}"),
    ],
)
def test_the_lost_rank_is_named_in_one_sentence_and_nobody_is_left(lost, name, sentence):
    both, _ = lost[name]
    codes = both.codes()
    victim = 0 if name.startswith("the one") else 1
    survivor = 1 - victim
    assert codes[survivor] == 2, both.said(survivor)
    told = " ".join(both.said(survivor).split())
    # on a busy machine the thread that gives signs of life may hear of it first, and end the process
    assert re.fullmatch(rf"sooner: (rank {survivor} ends: )?{sentence}", told), told
    if name == "hangs":  # nobody else would end it
        assert codes[victim] == 2
        assert "sooner: rank 1 ends: rank 1 hangs" in both.said(victim)
    elif name != "raised":
        assert codes[victim] == -signal.SIGKILL


def test_the_same_command_goes_on_and_ends_as_if_nothing_had_happened(lost, ranks, tmp_path_factory):
    straight = tmp_path_factory.mktemp("straight") / "run"
    runs = {"straight": (ranks(command(straight)), straight)}
    for name in ("killed", "killed while it saves"):
        lost[name][0].codes()
        runs[name] = ranks(command(lost[name][1])), lost[name][1]
    ends = {}
    for name, (both, folder) in runs.items():
        assert both.codes() == [0, 0], both.said(0) + both.said(1)
        assert [path.name for path in folder.iterdir()] == ["step-24"]
        ends[name] = weights(folder / "step-24")
    assert torch.equal(ends["killed"], ends["straight"])
    assert torch.equal(ends["killed while it saves"], ends["straight"])


def test_every_survivor_names_the_frozen_keeper_and_the_run_goes_on_with_two(lost, ranks):
    """Of three ranks the one that keeps the rendezvous is frozen; `test_lookout.py` has the others."""
    three, folder = lost["frozen, of three"]
    assert three.codes(1, 2) == [2, 2]
    keeper = rf"rank 0, which keeps the rendezvous, or the network to it, is gone; {GOES_ON}"
    for rank in (1, 2):  # without the store they can't agree on who tells
        assert re.fullmatch(f"sooner: {keeper}", " ".join(three.said(rank).split()))
    assert three.said(0) == ""
    three.processes[0].kill()
    assert three.codes() == [-signal.SIGKILL, 2, 2]
    again = ranks(command(folder, "--timeout", 600, codec="random_k"))
    assert again.codes() == [0, 0], again.said(0) + again.said(1)
    assert [path.name for path in folder.iterdir()] == ["step-24"]


def weights(folder):
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    dcp_to_torch_save(folder, folder.parent.parent / "whole.pt")
    content = torch.load(folder.parent.parent / "whole.pt", weights_only=False)
    return torch.cat([v.flatten() for k, v in sorted(content.items()) if re.fullmatch(r"(all|worker\d)/\d+", k)])
