"""The engine `ray` on a cluster of two nodes on this machine: the same bits, lost nodes, and an end on Ctrl-C.

One cluster serves all tests, as starting it takes most of their time.
"""

import os
import shutil
import sys
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray_cells  # noqa: F401 (the nodes are sent what was imported)
from small_races import LINE, Inline, cells, numbers, small_plan, written

import sooner
from sooner.error import SoonerError
from sooner.race.engines import packing, seat
from sooner.race.journal import read
from sooner.race.machine import processor, versions
from sooner.race.pool import WORKER, Cell
from sooner.race.pool_process import Attempt
from sooner.race.referee import run
from sooner.watch import Watch
from sooner.workloads import find

NODE = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 * 2**20}
"""A node says what it has; nobody looks whether the GPU is there."""
HELPER = "def scaled(x):\n    return 3 * x\n"
TASK = LINE.replace("import torch", "import torch\nfrom beside_the_task import scaled").replace(
    "x[i].sum(1, keepdim=True)", "scaled(x[i].sum(1, keepdim=True))"
)


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    less = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}  # each is a process
    made = Cluster(initialize_head=True, head_node_args={**NODE, **less})
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def pool(cluster):
    from sooner.race.engines.ray import Ray

    with Ray(address=cluster.address, gpus=1) as made:
        yield made


class Ledger:
    def __init__(self):
        self.results, self.told, self.failures = {}, {}, {}

    def run(self, pool, cells, progress=None):
        pool.run(
            cells,
            lambda cell, result: self.results.update({cell.key: result}),
            progress or (lambda cell, fraction, info: self.told.update({cell.key: info})),
            lambda cell, cause: self.failures.update({cell.key: cause}),
        )
        return self


def gone(pid):
    end = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}").exists()


def test_a_race_on_two_nodes_of_which_one_dies_is_the_local_one_bit_by_bit(tmp_path, cluster, pool):
    second = cluster.add_node(**NODE)
    written(tmp_path, HELPER, "beside_the_task.py")
    task = written(tmp_path, TASK)
    options = {"task": task, "tune": 1, "looks": (6,)}
    recipes = ("sgd(lr=log(0.01, 0.1))", "sgd(lr=0.03)")

    class Killing(Watch):
        done = 0

        def finished(self, cell, data):
            self.done += 1
            if self.done == 5:
                cluster.remove_node(second, allow_graceful=False)

    assert pool.jobs == 2
    found = run(small_plan(tmp_path / "ray", *recipes, **options), Killing(), pool)
    local = run(small_plan(tmp_path / "here", *recipes, **options), None, Inline())
    assert numbers(found) == numbers(local)
    there, here = (cells(read(tmp_path / name)) for name in ("ray", "here"))
    nodes = {data.pop("node")["id"] for data in there.values()}
    assert there == here
    assert len(nodes) == 2
    assert not read(tmp_path / "ray").all("failure")


def test_ctrl_c_ends_the_workers_and_what_fails_says_why(tmp_path, pool):
    wait = {"do": "ray_cells:wait", "until": str(tmp_path / "file")}
    seen = {}

    def stop(cell, fraction, info):
        seen.update(info)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Ledger().run(pool, [Cell("wait", wait)], stop)
    assert gone(seen["pid"])
    assert (seen["seed"], seen["threads"]) == ("0", "1")
    (tmp_path / "file").touch()
    after = Ledger().run(pool, [Cell("wait", wait), Cell("fail", {"do": "ray_cells:fail"})])
    assert list(after.results) == ["wait"]
    assert after.results["wait"]["gpus"] == "0"
    assert after.failures["fail"].startswith("RuntimeError: the loss is a frog (ray_cells.py:")


def test_a_cluster_without_room_is_refused_in_a_sentence(cluster, pool):
    from sooner.race.engines.ray import Ray

    with pytest.raises(SoonerError, match="no node of the cluster can run a cell, which takes 3 CPUs and 1 GPU"):
        Ray(address=cluster.address, cpus=3, gpus=1).run([Cell("a", {})], print)


def alone(**answers):
    """The engine without a cluster: what Ray would answer is given."""
    ray = pytest.importorskip("ray")
    from sooner.race.engines.nodes import Node
    from sooner.race.engines.ray import Ray, _Seat

    made = Ray(1)
    node = Node("0123456789", "far", 1, "")
    one = _Seat(node, None, "about")
    made._nodes, made._seats = {node.id: node}, [one]
    made._ray = SimpleNamespace(exceptions=ray.exceptions, kill=lambda actor: None, **answers)
    return made, one


def test_a_cell_that_loses_its_node_three_times_is_taken_for_the_reason():
    attempt, waiting, causes = Attempt(Cell("a", {})), deque(), []
    for _ in range(3):
        made, one = alone()
        made._lost(one, attempt, RuntimeError("The node\nhas died."), waiting, lambda cell, cause: causes.append(cause))
        attempt = waiting.popleft() if waiting else attempt
        assert made._seats == []
    assert causes == ["; then ".join(["node far was lost (has died.)"] * 3)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"processor": "abacus"}, "far: its processor is abacus, not "),
        ({"versions": {"torch": "1.0"}}, "far: it has numpy None, not "),
    ],
)
def test_a_node_of_another_kind_runs_nothing(change, said):
    about = {"name": "far", "processor": processor(), "versions": versions(), **change}
    made, one = alone(get=lambda ref: about)
    with pytest.raises(SoonerError, match=f"no node of the cluster can run a cell, .*{said}"):
        made._introduced(one)
    assert made._seats == []


def test_a_node_where_no_worker_starts_is_left_alone():
    made, one = alone()

    def get(ref):
        raise made._ray.exceptions.RayError("no module named torch")

    made._ray.get = get
    made._introduced(one)
    assert one.node.why_not == "no worker starts there (no module named torch)"


def test_a_node_without_these_files_gets_them(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    written(folder, HELPER, "another_beside.py")
    spec = str(written(folder, TASK.replace("beside_the_task", "another_beside")))
    task = find(spec)
    plan = small_plan(tmp_path / "race", "sgd(lr=0.02)", task=spec)
    (cell,) = plan.runs(plan.baseline, {}, 7)
    parcel = packing.packed([cell])
    assert {spec, str(folder / "another_beside.py")} <= set(parcel.files)
    assert not any("site-packages" in name for name in parcel.files)
    assert parcel.settle() is None  # they are here
    shutil.rmtree(folder)  # compiled files are in it too
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    made = seat.Seat(parcel, WORKER, {})
    *_, (kind, there) = made.run(cell.key, cell.payload)
    made._pool.close()
    assert kind == "result"
    here = sooner.train(task, "sgd(lr=0.02)", 7, 40, evaluate_at=cell.payload["evaluate_at"])
    assert there["values"] == here.values
