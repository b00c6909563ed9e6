"""The Makefile's environment: made in stages, made anew when cut off, left alone when nothing changed.

A script plays Python and pip, so nothing is installed.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
COMMANDS = (
    "help",
    "race",
    "test",
    "fuzz",
    "check",
    "docs",
    "bench",
    "claims",
    "lab",
    "alarms",
    "format",
    "environment",
    "clean",
)

# Stands for the Python that makes the environment and for the one inside it: `-m venv` copies the script, `-m pip`
# writes down what is to be installed, anything else succeeds.
PYTHON = """#!/bin/sh
case "$*" in
  "-m venv"*)
    mkdir -p .venv/bin
    cp "$0" .venv/bin/python
    for tool in sooner pytest; do
      printf '#!/bin/sh\\necho %s "$@"\\n' $tool > .venv/bin/$tool
      chmod +x .venv/bin/$tool
    done ;;
  *"-m pip"*)
    echo "$*" >> pip.log
    case "$*" in *torch) if test -e slow; then exec "$SLEEPER" -c "$SLEEP"; fi ;; esac
    test ! -e broken ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


@pytest.fixture
def folder(tmp_path):
    """A checkout, in a folder whose name is hard to quote, with the script in place of Python."""
    place = tmp_path / "it's a  folder"
    place.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(CHECKOUT / name, place)
    script = place / "python"
    script.write_text(PYTHON)
    script.chmod(0o755)
    return place


def command(*arguments):
    return ["make", "PYTHON=./python", *arguments]


# The tests may themselves run under make, whose options are not meant for these.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")}
# A slow installation says itself that it has started: a shell that waits for `touch` may miss the interrupt.
ENVIRONMENT |= {"SLEEPER": sys.executable, "SLEEP": "import time; open('started', 'w').close(); time.sleep(3600)"}


def make(folder, *arguments, ok=True):
    """Run make and return what it printed."""
    done = subprocess.run(command(*arguments), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def installed(folder):
    """Return what pip was asked for since the last time, in order, without the options."""
    log = folder / "pip.log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [line.split("constraints.txt ")[-1] for line in lines]


RACE = ["pip", "torch", "--editable .[digits]"]
TEST = ["--group test"]
CHECK = ["--group check"]
DOCS = ["--group docs"]


def test_make_alone_lists_every_command(folder):
    printed = make(folder)
    assert [line.split()[0] for line in printed.splitlines()[1:]] == list(COMMANDS)
    assert not (folder / ".venv").exists()


def test_a_race_waits_for_no_tool_that_it_does_not_use(folder):
    assert make(folder, "race", "ARGS=digits --json").endswith("sooner race digits --json\n")
    assert installed(folder) == RACE
    assert make(folder, "test", "ARGS=-x", "WORKERS=3").endswith(
        "pytest -n 3 --dist loadfile --no-loadscope-reorder -x\n"
    )
    assert installed(folder) == TEST
    make(folder, "environment", "-j4")
    assert installed(folder) == CHECK


def test_the_site_waits_for_no_test_tools(folder):
    make(folder, "race")
    installed(folder)
    (folder / ".venv/bin/sphinx-build").write_text('#!/bin/sh\necho sphinx-build "$@"\n')
    (folder / ".venv/bin/sphinx-build").chmod(0o755)
    old = folder / "build" / "site" / "old.html"
    old.parent.mkdir(parents=True)
    old.touch()
    (folder / "docs").mkdir()  # as in a checkout, where the name of the command is that of a folder
    assert "sphinx-build -q -W" in make(folder, "docs")
    assert installed(folder) == DOCS
    assert not old.exists()


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_an_environment_follows_what_it_was_made_from(folder, changed):
    make(folder, "environment", "-j4")
    assert installed(folder) == RACE + TEST + CHECK
    make(folder, "environment")
    assert installed(folder) == []
    later = time.time() + 5
    os.utime(folder / changed, (later, later))
    make(folder, "race")
    assert installed(folder) == RACE[1:]


def test_when_pip_gives_up_the_stage_is_not_done_and_the_rest_stays(folder):
    make(folder, "race")
    (folder / "broken").touch()
    assert "make QUIET= test" in make(folder, "test", ok=False)
    installed(folder)
    (folder / "broken").unlink()
    make(folder, "test")
    assert installed(folder) == TEST


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_installation_that_was_cut_off_is_made_anew(folder, how):
    (folder / "slow").touch()
    running = subprocess.Popen(
        command("race"),
        cwd=folder,
        env=ENVIRONMENT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (folder / "started").exists():
        assert running.poll() is None
        time.sleep(0.01)
    os.killpg(running.pid, how)
    assert running.wait() != 0
    (folder / "slow").unlink()
    installed(folder)
    (folder / ".venv" / "half made").touch()
    make(folder, "race")
    assert installed(folder) == RACE
    assert not (folder / ".venv" / "half made").exists()


def test_an_environment_that_moved_with_its_folder_is_made_anew(folder):
    make(folder, "race")
    installed(folder)
    make(folder.rename(folder.with_name("elsewhere")), "race")
    assert installed(folder.with_name("elsewhere")) == RACE


def test_an_environment_of_somebody_else_is_not_touched(folder):
    (folder / ".venv").mkdir()
    (folder / ".venv" / "theirs").touch()
    assert "make clean removes it" in make(folder, "race", ok=False)
    assert (folder / ".venv" / "theirs").exists()


def test_an_old_python_is_named(folder):
    (folder / "old").write_text("#!/bin/sh\nexit 1\n")
    (folder / "old").chmod(0o755)
    assert "./old is not Python 3.11 or newer" in make(folder, "PYTHON=./old", "race", ok=False)
    assert not (folder / ".venv").exists()


def test_clean_keeps_what_was_raced(folder):
    for kept in ("races", "src", "tests", "benchmarks", "docs"):
        (folder / kept).mkdir()
    (folder / "src" / "__pycache__").mkdir()
    make(folder, "race")
    make(folder, "clean")
    assert (folder / "races").exists()
    assert not (folder / ".venv").exists()
    assert not (folder / "src" / "__pycache__").exists()


def test_the_benchmarks_stop_at_the_first_failure(folder):
    (folder / "benchmarks").mkdir()
    for name in ("_shared", "a", "b", "false_alarms", "verdict_rules"):
        (folder / "benchmarks" / f"{name}.py").touch()
    make(folder, "race")
    assert make(folder, "bench").splitlines() == ["== benchmarks/a.py", "== benchmarks/b.py"]
    (folder / ".venv/bin/python").write_text("#!/bin/sh\nexit 7\n")
    assert "== benchmarks/b.py" not in make(folder, "bench", ok=False)
