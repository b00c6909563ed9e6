"""Which device, and which of several, a run is given."""

import pytest

from sooner.error import SoonerError
from sooner.race.effort import processor_seconds
from sooner.race.engines.processes import Processes
from sooner.race.places import device_of, places
from sooner.race.pool import Cell


def seen(payload, report):
    import os
    import time

    time.sleep(0.3)  # so that the other worker gets the other cell
    return {"sees": os.environ["CUDA_VISIBLE_DEVICES"]}


def test_places_divide_the_devices():
    assert places("0,1,2,3", 2, "cuda") == [{"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"}]
    assert places(None, 1, "cpu") == []


def test_visible_devices_are_the_default(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    assert [one["CUDA_VISIBLE_DEVICES"] for one in places(None, 1, "cuda")] == ["GPU-a", "GPU-b"]


@pytest.mark.parametrize(
    ("gpus", "per_run", "device", "words"),
    [
        ("0,1,2", 2, "cuda", "does not divide the 3 GPUs"),
        ("0,0", 1, "cuda", "0 twice"),
        (",", 1, "cuda", "names no device"),
        ("0", 1, "cpu", "these run on cpu"),
        ("0", 0, "cuda", "does not divide"),
    ],
)
def test_devices_that_do_not_go_together_are_refused(gpus, per_run, device, words):
    with pytest.raises(SoonerError, match=words):
        places(gpus, per_run, device)


def test_unknown_devices_are_refused():
    with pytest.raises(SoonerError, match="choose auto, cpu, cuda, mps"):
        device_of("cudda")


def test_each_worker_sees_its_own_devices(monkeypatch, tmp_path):
    found = set()
    with Processes(2, "test_places:seen", slots=places("4,5,6,7", 2, "cuda")) as pool:
        pool.run([Cell(str(i), {}) for i in range(2)], lambda cell, data: found.add(data["sees"]))
    assert found == {"4,5", "6,7"}
    with pytest.raises(SoonerError, match="3 jobs need as many places"):
        Processes(3, "test_places:seen", slots=places("0,1", 1, "cuda"))


def test_work_is_seen_from_outside():
    import os

    before = processor_seconds(os.getpid())
    if before is None:  # no /proc: silence is then all that is known
        return
    total = 0
    while processor_seconds(os.getpid()) < before + 0.05:
        total += sum(range(1000))
    assert processor_seconds(2**22 + 1) is None
