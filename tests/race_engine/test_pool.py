import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pool_cells
import pytest

from sooner.error import SoonerError
from sooner.race import pool_process
from sooner.race.engines.processes import Processes as Pool
from sooner.race.pool import Cell
from sooner.race.pool_process import Attempt, Worker

HERE = str(Path(__file__).parent)


SILENCE = 3
"""Seconds that a worker may be silent where silence is tested: a sound one speaks sooner on a busy machine too."""


class Ledger:
    """Everything that a pool told."""

    def __init__(self):
        self.results, self.progress, self.failures = {}, [], {}

    def on_result(self, cell, result):
        assert cell.key not in self.results
        self.results[cell.key] = result

    def on_progress(self, cell, fraction, info):
        self.progress.append((cell.key, fraction, info))

    def on_failure(self, cell, cause):
        assert cell.key not in self.failures
        self.failures[cell.key] = cause

    def run(self, pool, cells):
        pool.run(cells, self.on_result, self.on_progress, self.on_failure)
        return self


def squares(count):
    return [Cell(f"cell-{number}", {"x": number}, weight=number) for number in range(count)]


def misbehaving(tmp_path, *hows):
    return [Cell(how, {"how": how, "log": str(tmp_path / f"{how}.log")}) for how in hows]


def children():
    """The processes that this one has started and that are there, if only as what is left of them."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(folder.name)
    return found


def descriptors():
    """How many files and connections this process has open."""
    return len(list(Path("/dev/fd").iterdir()))


def attempts(tmp_path, how):
    """The process ids of the attempts at a misbehaving cell."""
    return (tmp_path / f"{how}.log").read_text().splitlines()


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_every_cell_gives_its_own_result(jobs):
    with Pool(jobs, "pool_cells:square") as pool:
        ledger = Ledger().run(pool, squares(7))
        assert {key: result["square"] for key, result in ledger.results.items()} == {
            f"cell-{n}": n * n for n in range(7)
        }
        assert sorted(ledger.progress) == [(f"cell-{n}", 0.5, {"half": n / 2}) for n in range(7)]
        assert ledger.failures == {}
        assert {result["pid"] for result in ledger.results.values()} <= set(pool.worker_pids)
        assert len(pool.worker_pids) <= jobs


def test_one_worker_takes_the_cells_in_their_order_and_outlives_a_run():
    with Pool(1, "pool_cells:square") as pool:
        assert pool.worker_pids == []
        assert list(Ledger().run(pool, squares(5)).results) == [f"cell-{n}" for n in range(5)]
        pids = pool.worker_pids
        assert {result["pid"] for result in Ledger().run(pool, squares(5)).results.values()} == set(pids)
        assert pool.worker_pids == pids
    assert pool.worker_pids == []
    assert not any(pool_cells.alive(pid) for pid in pids)


def test_there_are_never_more_workers_than_cells():
    with Pool(5, "pool_cells:square") as pool:
        assert Ledger().run(pool, []).results == {}
        assert pool.worker_pids == []
        assert len(Ledger().run(pool, squares(2)).results) == 2
        assert 1 <= len(pool.worker_pids) <= 2


def test_non_finite_results_arrive(tmp_path):
    with Pool(1, "pool_cells:square") as pool:
        results = Ledger().run(pool, [Cell("inf", {"x": math.inf}), Cell("nan", {"x": math.nan})]).results
    assert results["inf"]["square"] == math.inf
    assert math.isnan(results["nan"]["square"])


def test_workers_have_one_thread_one_hash_seed_and_none_of_our_main_program(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    seen = []
    for _ in range(2):
        with Pool(1, "pool_cells:environment") as pool:
            seen.append(Ledger().run(pool, [Cell("a", {})]).results["a"])
    assert seen[0] == seen[1]
    assert seen[0]["threads"] == ["1", "1", "1"]
    assert seen[0]["torch"] is False
    assert Path(seen[0]["main"]).name == "pool_worker.py"
    assert os.environ["OMP_NUM_THREADS"] == "8"
    assert "MKL_NUM_THREADS" not in os.environ


def test_torch_computes_with_one_thread_in_every_cell():
    with Pool(1, "pool_cells:torch_threads") as pool:
        assert Ledger().run(pool, [Cell("a", {}), Cell("b", {})]).results == {"a": {"threads": 1}, "b": {"threads": 1}}


def test_a_worker_that_died_idle_is_replaced_without_blame():
    with Pool(1, "pool_cells:square") as pool:
        Ledger().run(pool, squares(1))
        (pid,) = pool.worker_pids
        os.kill(pid, signal.SIGKILL)
        while pool.worker_pids:
            time.sleep(0.01)
        ledger = Ledger().run(pool, squares(1))
    assert list(ledger.results) == ["cell-0"]
    assert ledger.failures == {}


def test_a_worker_that_dies_is_tried_once_more_in_a_new_one(tmp_path):
    with Pool(2, "pool_cells:misbehave") as pool:
        ledger = Ledger().run(pool, misbehaving(tmp_path, "nothing", "kill once", "kill", "exit", "nothing else"))
    assert ledger.results == {
        "nothing": {"attempts": 1},
        "kill once": {"attempts": 2},
        "nothing else": {"attempts": 1},
    }
    assert ledger.failures == {"kill": "killed by signal 9 (out of memory?), 2 times", "exit": "exit code 3, 2 times"}
    for how in ("kill", "exit", "kill once"):
        assert len(set(attempts(tmp_path, how))) == 2


@pytest.mark.parametrize(("retries", "count"), [(0, ""), (2, ", 3 times")])
def test_the_number_of_retries(tmp_path, retries, count):
    with Pool(1, "pool_cells:misbehave", retries=retries) as pool:
        ledger = Ledger().run(pool, misbehaving(tmp_path, "kill"))
    assert ledger.failures == {"kill": f"killed by signal 9 (out of memory?){count}"}
    assert len(attempts(tmp_path, "kill")) == retries + 1


def test_the_last_words_of_a_dead_worker_are_kept(tmp_path):
    with Pool(1, "pool_cells:misbehave", retries=0) as pool:
        ledger = Ledger().run(pool, misbehaving(tmp_path, "abort", "kill"))
    assert ledger.failures["abort"] == "killed by signal 6 (Aborted); its last words: the disk is on fire"
    assert ledger.failures["kill"] == "killed by signal 9 (out of memory?)"


def test_the_words_of_one_cell_are_not_those_of_the_next(tmp_path):
    with Pool(1, "pool_cells:misbehave", retries=0) as pool:
        ledger = Ledger().run(pool, misbehaving(tmp_path, "print", "kill"))
    assert attempts(tmp_path, "print") == attempts(tmp_path, "kill")
    assert ledger.failures == {"kill": "killed by signal 9 (out of memory?)"}


def test_a_retry_gets_a_new_worker_even_if_another_is_idle(tmp_path):
    with Pool(2, "pool_cells:misbehave") as pool:
        Ledger().run(pool, misbehaving(tmp_path, "nothing", "nothing else"))
        pids = pool.worker_pids
        assert len(pids) == 2
        assert Ledger().run(pool, misbehaving(tmp_path, "kill once")).results == {"kill once": {"attempts": 2}}
    first, second = attempts(tmp_path, "kill once")
    assert int(first) in pids
    assert int(second) not in pids


def test_an_answer_that_is_still_on_its_way_comes_before_the_death(tmp_path):
    worker = Worker("pool_cells:misbehave")
    worker.give(Attempt(misbehaving(tmp_path, "exit after answering")[0]))
    while worker.take(0.0) != ["ready"]:
        assert worker.trouble(120) is None
    worker.process.wait()
    assert worker.trouble(120) is None
    assert worker.take(0.0) == ["progress", 0.1, {}]
    assert worker.trouble(120) is None
    assert worker.take(0.0) == ["progress", 1.0, {"last": True}]
    assert worker.take(0.0) is None
    assert worker.trouble(120) == "exit code 0"
    worker.end()


def test_modules_beside_the_worker_do_not_hide_the_standard_library(tmp_path, monkeypatch):
    shutil.copy(Path(pool_process.__file__).with_name("pool_worker.py"), tmp_path)
    (tmp_path / "queue.py").write_text("raise RuntimeError('this is not the queue of the standard library')")
    monkeypatch.setattr(pool_process, "__file__", str(tmp_path / "pool_process.py"))
    with Pool(1, "pool_cells:square") as pool:
        assert list(Ledger().run(pool, squares(1)).results) == ["cell-0"]


def test_what_a_worker_said_before_it_died_still_counts(tmp_path):
    with Pool(1, "pool_cells:misbehave", retries=0) as pool:
        ledger = Ledger().run(pool, misbehaving(tmp_path, "exit after answering"))
    assert ("exit after answering", 1.0, {"last": True}) in ledger.progress
    assert ledger.failures == {"exit after answering": "exit code 0"}


def test_a_silent_worker_is_killed_and_its_cell_tried_once_more(tmp_path):
    with Pool(2, "pool_cells:misbehave", silence_seconds=SILENCE) as pool:
        ledger = Ledger().run(pool, misbehaving(tmp_path, "hang", "hang, then exit", "nothing"))
    assert ledger.failures == {
        "hang": f"no sign of life for {SILENCE} s, 2 times",
        "hang, then exit": f"no sign of life for {SILENCE} s; then exit code 7",
    }
    assert ledger.results == {"nothing": {"attempts": 1}}
    pool_cells.wait_until_gone(attempts(tmp_path, "hang"))


def test_a_worker_that_reports_is_not_silent(tmp_path):
    reports = 0

    def on_progress(cell, fraction, info):
        nonlocal reports
        reports += 1
        if reports == 15 * SILENCE:  # they are 0.1 s apart or more: longer than the silence allowed
            (tmp_path / "file").touch()

    ledger = Ledger()
    with Pool(1, "pool_cells:wait_for_file", silence_seconds=SILENCE, retries=0) as pool:
        pool.run([Cell("a", {"until": str(tmp_path / "file")})], ledger.on_result, on_progress)
    assert ledger.results == {"a": {}}


def test_a_busy_parent_is_not_the_silence_of_its_workers(tmp_path):
    ledger = Ledger()

    def on_result(cell, result):
        time.sleep(0 if ledger.results else 1.2 * SILENCE)
        ledger.on_result(cell, result)

    with Pool(2, "pool_cells:square", silence_seconds=SILENCE, retries=0) as pool:
        pool.run(squares(3), on_result)
    assert len(ledger.results) == 3


def test_a_worker_that_closes_its_connection_is_lost(tmp_path):
    with Pool(1, "pool_cells:misbehave", retries=0) as pool:
        ledger = Ledger().run(pool, misbehaving(tmp_path, "hang up", "close everything"))
    assert ledger.failures["hang up"] == "the worker closed its connection"
    assert ledger.failures["close everything"].startswith("exit code 1; its last words: ")
    assert ledger.failures["close everything"].endswith("OSError: [Errno 9] Bad file descriptor")


def test_what_a_worker_prints_never_blocks_it(tmp_path):
    with Pool(1, "pool_cells:misbehave", silence_seconds=20) as pool:
        ledger = Ledger().run(pool, misbehaving(tmp_path, "chatter"))
    assert ledger.results == {"chatter": {"attempts": 1}}


def test_exceptions_fail_at_once_and_say_where(tmp_path):
    hows = ("raise", "raise without words", "raise for people", "return a list", "return a set")
    with Pool(2, "pool_cells:misbehave") as pool:
        ledger = Ledger().run(pool, misbehaving(tmp_path, *hows))
        assert len(pool.worker_pids) == 2
    lines = Path(pool_cells.__file__).read_text().splitlines()
    line = 1 + next(number for number, text in enumerate(lines) if "a frog" in text)
    assert ledger.failures.pop("raise") == f"ValueError: the loss is a frog (pool_cells.py:{line} in misbehave)"
    assert ledger.failures.pop("raise without words").startswith("KeyError (pool_cells.py:")
    assert ledger.failures.pop("raise for people") == "lr is -1: it must be above 0"
    assert ledger.failures.pop("return a list").startswith("TypeError: a cell must return a dict, not list")
    assert ledger.failures.pop("return a set").startswith("TypeError: Object of type set is not JSON serializable")
    assert ledger.failures == {}
    assert all(len(attempts(tmp_path, how)) == 1 for how in hows)


@pytest.mark.parametrize(
    ("function", "cause"),
    [("no_such_module:f", "ModuleNotFoundError: No module named 'no_such_module'"), ("pool_cells:f", "AttributeError")],
)
def test_a_function_that_cannot_be_imported_fails_every_cell(function, cause):
    with Pool(1, function) as pool:
        ledger = Ledger().run(pool, squares(2))
    assert len(ledger.failures) == 2
    assert all(text.startswith(cause) for text in ledger.failures.values())


def test_a_failure_that_nobody_takes_is_an_error(tmp_path):
    with Pool(1, "pool_cells:misbehave") as pool:
        with pytest.raises(SoonerError, match=r"raise failed: ValueError: the loss is a frog"):
            pool.run(misbehaving(tmp_path, "raise"), print)
        assert pool.worker_pids == []


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SoonerError("no space left"), ZeroDivisionError])
@pytest.mark.parametrize("callback", ["on_result", "on_progress", "on_failure"])
def test_an_exception_in_a_callback_stops_every_worker(tmp_path, callback, exception):
    pids = []

    def stop(*told):
        pids.extend(pool.worker_pids)
        raise exception

    def go_on(*told):
        pass

    callbacks = {"on_result": go_on, "on_progress": go_on, "on_failure": go_on, callback: stop}
    how = "raise" if callback == "on_failure" else "nothing"
    with Pool(2, "pool_cells:misbehave") as pool:
        with pytest.raises(exception if isinstance(exception, type) else SoonerError):
            pool.run(misbehaving(tmp_path, "hang", how), **callbacks)
        assert len(pids) == 2
        assert pool.worker_pids == []
        assert not any(pool_cells.alive(pid) for pid in pids)
        assert Ledger().run(pool, misbehaving(tmp_path, "nothing at all")).results == {
            "nothing at all": {"attempts": 1}
        }


def test_workers_started_in_a_thread_that_has_ended_live_on():
    with Pool(2, "pool_cells:square") as pool:
        first = threading.Thread(target=Ledger().run, args=(pool, squares(4)))
        first.start()
        first.join()
        pids = pool.worker_pids
        assert len(pids) >= 1
        assert len(Ledger().run(pool, squares(4)).results) == 4
        assert set(pids) <= set(pool.worker_pids)


@pytest.mark.parametrize(("jobs", "silence", "said"), [(0, 120, "jobs is 0"), (1, 0, "silence is 0")])
def test_impossible_settings_are_refused(jobs, silence, said):
    with pytest.raises(SoonerError, match=said):
        Pool(jobs, "pool_cells:square", silence_seconds=silence)


def test_a_worker_that_cannot_be_started_is_told(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    before = descriptors()
    with Pool(1, "pool_cells:square") as pool, pytest.raises(SoonerError, match="cannot start a worker process"):
        Ledger().run(pool, squares(1))
    assert descriptors() == before


def test_a_closed_pool_leaves_no_descriptor_and_no_process():
    before = descriptors(), children()
    with Pool(2, "pool_cells:square") as pool:
        Ledger().run(pool, squares(4))
        assert descriptors() > before[0]
        assert children() > before[1] or not Path("/proc/self").exists()
    assert (descriptors(), children()) == before


# No `if __name__ == "__main__"`: a worker that imported this again would start workers of its own.
UNGUARDED = """
import json, sys
sys.path.append(sys.argv[-1])
from sooner.race.engines.processes import Processes as Pool
from sooner.race.pool import Cell
with Pool(2, "pool_cells:square") as pool:
    pool.run([Cell(str(n), {"x": n}) for n in range(4)], lambda cell, result: print(result["square"]))
"""


@pytest.mark.parametrize("way", ["file", "standard input", "command", "module"])
def test_an_unguarded_main_program_works_however_it_is_started(tmp_path, way):
    (tmp_path / "program.py").write_text(UNGUARDED)
    (tmp_path / "random.py").write_text("raise RuntimeError('the folder of the script hides the standard library')")
    arguments = {
        "file": ["-P", "program.py"],
        "standard input": ["-P", "-"],
        "command": ["-P", "-c", UNGUARDED],
        "module": ["-m", "program"],
    }[way]
    if way == "module":
        (tmp_path / "random.py").unlink()
    run = subprocess.run(
        [sys.executable, *arguments, HERE],
        cwd=tmp_path,
        input=UNGUARDED if way == "standard input" else "",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)},
    )
    assert run.stderr == ""
    assert sorted(run.stdout.split()) == ["0", "1", "4", "9"]


PARENT = """
import sys, threading
sys.path.append(sys.argv[1])
from sooner.race.engines.processes import Processes as Pool
from sooner.race.pool import Cell

def show(cell, fraction, info):
    print(info["pid"], flush=True)

def work():
    with Pool(2, sys.argv[2]) as pool:
        pool.run([Cell("a", {}), Cell("b", {})], print, show)

if sys.argv[3] == "thread":
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
else:
    work()
"""


def start_parent(function, where="main"):
    """Start a program with a pool of two workers, in a process group of its own; return it and the workers' pids."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, HERE, function, where],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pids = [int(parent.stdout.readline()) for _ in range(2)]
    assert all(pool_cells.alive(pid) for pid in pids)
    return parent, pids


@pytest.mark.parametrize(
    ("function", "where"),
    [("pool_cells:forever", "main"), ("pool_cells:forever", "thread"), ("pool_cells:deaf", "main")],
)
def test_no_worker_outlives_a_killed_parent(function, where):
    parent, pids = start_parent(function, where)
    with parent:
        parent.kill()
    pool_cells.wait_until_gone(pids)


def test_ctrl_c_ends_parent_and_workers():
    parent, pids = start_parent("pool_cells:forever")
    os.killpg(parent.pid, signal.SIGINT)  # what a terminal does
    _, errors = parent.communicate()
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert errors.count("Traceback") == 1
    pool_cells.wait_until_gone(pids)


def test_workers_leave_ctrl_c_to_the_parent(tmp_path):
    def interrupt(cell, fraction, info):
        os.kill(info["pid"], signal.SIGINT)
        (tmp_path / "file").touch()

    ledger = Ledger()
    with Pool(1, "pool_cells:wait_for_file", retries=0) as pool:
        pool.run([Cell("a", {"until": str(tmp_path / "file")})], ledger.on_result, interrupt)
    assert ledger.results == {"a": {}}


def test_a_stopped_race_goes_on_where_it_was(tmp_path):
    program = f"""
import sys
sys.path.append({HERE!r})
from sooner.race.engines.processes import Processes as Pool
from sooner.race.pool import Cell
with Pool(1, "pool_cells:wait_for_file", silence_seconds={SILENCE}, retries=0) as pool:
    pool.run([Cell("a", {{"until": {str(tmp_path / "file")!r}}})], lambda cell, result: print("done"),
             lambda cell, fraction, info: print(fraction, flush=True))
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with parent:
        parent.stdout.readline()
        os.killpg(parent.pid, signal.SIGSTOP)  # Ctrl-Z
        time.sleep(1.2 * SILENCE)
        os.killpg(parent.pid, signal.SIGCONT)
        (tmp_path / "file").touch()
        assert parent.stdout.read().split()[-1] == "done"
    assert parent.returncode == 0


def test_results_are_the_same_however_many_workers():
    def results(jobs):
        with Pool(jobs, "pool_cells:square") as pool:
            found = Ledger().run(pool, squares(6)).results
        return json.dumps({key: found[key]["square"] for key in sorted(found)})

    assert results(1) == results(3)
