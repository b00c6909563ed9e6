"""`sooner live`: what the page is told, who may stop the race, and the page itself in a browser, on a phone too."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from forked_workers import forked
from headless import browser, fits  # noqa: F401
from points_task import task_file

from sooner.error import SoonerError
from sooner.racing import race
from sooner.watch.pulse import Pulse

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from sooner.live.state import Folder

SOURCE = Path(__file__).parents[2] / "src"
WORDS = [sys.executable, "-c", "from sooner.cli import main; main()"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def cell(key, weight=40.0):
    return SimpleNamespace(key=key, payload={}, weight=weight)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, zygote):
    """A small race that has ended, with all it told on the way."""
    folder = tmp_path_factory.mktemp("live")
    options = {"seeds": 6, "tune": 1, "cost": False, "jobs": 1}
    with forked(zygote):
        return race(str(task_file(folder)), "sgd(lr=0.02); sgd(lr=0.05)", out=folder / "race", **options)


def test_the_page_is_told_curves_standing_and_verdicts(finished):
    folder = Folder(finished.folder)
    state = folder.state()
    json.dumps(state, allow_nan=False)
    assert (state["name"], state["finished"], state["alive"]) == ("my_task", True, False)
    racing = [curve for curve in state["curves"] if curve["purpose"] == "racing"]
    assert len(racing) == 12
    ours = finished.contenders[1]["curves"][0]
    (same,) = [c for c in racing if c["recipe"] == "sgd(lr=0.05)" and c["seed"] == f"seed {ours['seed']}"]
    assert same["steps"] == ours["steps"]
    assert same["values"] == pytest.approx(ours["values"], rel=1e-4)
    assert [row["seeds"] for row in state["standing"]] == [1, 2, 3, 4, 5, 6]
    last, found = state["standing"][-1], finished.contenders[1]["targets"]["middle"]
    assert (last["ratio"], last["low"], last["high"]) == (found["ratio"], found["low"], found["high"])
    assert [one["verdict"] for one in state["verdicts"]] == [one["verdict"] for one in finished.contenders]


def test_curves_that_the_page_has_are_not_sent_again(finished):
    folder = Folder(finished.folder)
    everything = folder.state()["curves"]
    later = folder.state(have=len(everything) - 2)
    assert (later["curves"], later["curves_from"]) == (everything[-2:], len(everything) - 2)
    other = folder.state(have=10_000)  # a page that has seen another race here
    assert (len(other["curves"]), other["curves_from"]) == (len(everything), 0)


def test_a_race_of_before_and_a_torn_file_are_shown_as_far_as_they_go(finished, tmp_path):
    (tmp_path / "journal.jsonl").write_bytes((finished.folder / "journal.jsonl").read_bytes())
    folder = Folder(tmp_path)
    assert (folder.state()["finished"], folder.state()["curves"]) == (True, [])
    (tmp_path / "live.json").write_text('{"half', encoding="utf-8")
    assert folder.state()["running"] == []
    with pytest.raises(SoonerError, match="no race in "):
        Folder(tmp_path / "nowhere")


def test_the_file_tells_what_runs_and_what_is_left(tmp_path):
    pulse, runs = Pulse(tmp_path), [cell(f"sgd | seed {n} | 40 steps") for n in (1, 2)]
    pulse.start({"kind": "race"})
    pulse.phase("racing", runs, 100.0)
    pulse._written = -10.0
    pulse.evaluation(20, {"loss": float("inf")}, runs[0])
    pulse._written = -10.0
    pulse.progress(runs[0], 0.5, {})
    told = json.loads((tmp_path / "live.json").read_text())
    assert told["running"] == {runs[0].key: {"fraction": 0.5, "steps": [20], "values": ["inf"]}}
    assert (told["left"], told["now"], told["spent"]) == (160.0, 20.0, 0.0)
    pulse.finished(runs[0], {})
    pulse.failed(runs[1], "exit code 1")
    pulse.end({"finished": "now"})
    told = json.loads((tmp_path / "live.json").read_text())
    assert (told["left"], told["spent"], told["running"]) == (100.0, 80.0, {})
    assert told["failed"] == [{"cell": runs[1].key, "cause": "exit code 1"}]
    assert [path.name for path in tmp_path.iterdir()] == ["live.json"]


def test_a_race_is_stopped_by_a_file_and_an_old_one_stops_nothing(tmp_path):
    (tmp_path / "stop").touch()
    pulse = Pulse(tmp_path)
    pulse.start({})
    assert not (tmp_path / "stop").exists()
    (tmp_path / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        pulse.phase("racing", [], 0.0)
    assert not (tmp_path / "stop").exists()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A race that nothing settles early and that nobody waits for, and its page: address, token, both processes."""
    base = tmp_path_factory.mktemp("served")
    task, folder = task_file(base), base / "race"
    words = ["race", str(task), "--recipes", "sgd(lr=0.02); sgd(lr=0.05)", "--seeds", "1000", "--tune", "0"]
    racing = subprocess.Popen(
        [*WORDS, *words, "--jobs", "1", "--no-cost", "--out", str(folder)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as in the background of a script
    )
    while not (folder / "live.json").exists():
        assert racing.poll() is None, racing.communicate()[0]
        time.sleep(0.1)
    page = subprocess.Popen(
        [*WORDS, "live", str(folder), "--port", "0"], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    address, token = page.stdout.readline().strip().split("#token=")
    yield SimpleNamespace(address=address, token=token, racing=racing, page=page, folder=folder)
    for process in (racing, page):
        process.kill()
        process.wait()
        process.stdout.close()


def ask(address, method="GET", **headers):
    request = urllib.request.Request(
        address, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), dict(error.headers)


def test_nobody_else_may_stop_a_race_or_read_it_under_another_name(served):
    assert ask(f"{served.address}stop", "POST")[0] == 403
    assert ask(f"{served.address}stop", "POST", X_Token="guess")[0] == 403
    assert ask(f"{served.address}stop?token={served.token}", "GET", X_Token=served.token)[0] == 405
    assert ask(f"{served.address}state", Host="evil.example")[0] == 400
    status, text, headers = ask(f"{served.address}state?have=nonsense")
    assert (status, json.loads(text)["alive"]) == (200, True)
    assert "access-control-allow-origin" not in {name.lower() for name in headers}
    assert served.token not in text + ask(served.address)[1] + ask(f"{served.address}live.js")[1]
    assert "script-src 'self'" in ask(served.address)[2]["content-security-policy"]
    assert ask(f"{served.address}report")[0] == 404
    assert ask(f"{served.address}../state.py")[0] == 404
    assert served.racing.poll() is None
    assert (served.folder / "stop").exists() is False


def until(page, seen):
    """Wait in this process: the page's policy allows nobody to evaluate text in it."""
    while not seen():
        page.wait_for_timeout(50)


@pytest.mark.browser
def test_a_running_race_is_seen_on_a_phone_and_stopped_from_there(served, browser):  # noqa: F811
    wrong = []
    page = browser.new_page(viewport={"width": 375, "height": 700})
    page.set_default_timeout(0)
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: request.url.startswith(served.address) or wrong.append(request.url))
    page.goto(f"{served.address}#token={served.token}")
    page.wait_for_selector("#standing svg circle", state="attached")
    until(page, lambda: page.locator("#curves polyline").count() > 4)
    assert page.inner_text("h1") == "Race on my_task"
    assert re.search(r"racing on \d+ seeds: \d+ of \d+ cells; \d+ kept in all", page.inner_text("#status"))
    assert re.search(r"\[\d\.\d\dx, (\d+\.\d\dx|never)\] on \d+ seed|unknown yet|never", page.inner_text("#standing"))
    before = page.inner_text("#status")
    until(page, lambda: page.inner_text("#status") != before)  # it grows
    assert fits(page)
    assert page.evaluate("document.getElementById('stop').getBoundingClientRect().height >= 44")
    page.click("#stop")
    assert served.racing.poll() is None
    assert "Really stop?" in page.inner_text("#stop")
    page.click("#stop")
    until(page, lambda: "stopped" in page.inner_text("#status"))
    assert served.racing.wait() == 130
    assert "the same command goes on" in served.racing.stdout.read()
    assert not page.is_visible("#stop")
    assert wrong == []
    page.close()


def test_a_finished_race_leads_to_its_report(finished):
    import uvicorn

    from sooner.live.app import make

    server = uvicorn.Server(
        uvicorn.Config(make(Folder(finished.folder), "token"), port=0, log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
        status, text, _ = ask(f"{address}report")
        assert (status, "Race on my_task" in text) == (200, True)
        assert ask(f"{address}stop", "POST", X_Token="token")[0] == 409
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "no race in nowhere"),
        (["nowhere", "--port", "70000"], "--port 70000 is not a port"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_sentence(words, said, tmp_path):
    done = subprocess.run([*WORDS, "live", *words], env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
