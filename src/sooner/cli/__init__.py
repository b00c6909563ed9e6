"""The command line: parse, call, print. Only the commands that need PyTorch import it, so that help answers at once."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from cyclopts import App, CycloptsError
from rich.console import Console

from sooner.cli.ablate import ablate
from sooner.cli.asking import claim, lab, league
from sooner.cli.forecast import forecast
from sooner.cli.judge import judge
from sooner.cli.link import link
from sooner.cli.live import live
from sooner.cli.looking import explain, papers, parts, workloads
from sooner.cli.running import race, show, train
from sooner.error import SoonerError
from sooner.version import __version__

app = App(
    name="sooner",
    version=__version__,
    suppress_keyboard_interrupt=False,  # `main` says that it stopped
    help="Reach the training target sooner, and prove it: published methods as small parts, and a fair race of them.",
    help_epilogue="Start with: sooner race   (adamw against sgd and muon on real text, about 3 minutes on 2 cores)",
)


for command in (
    race,
    ablate,
    judge,
    train,
    show,
    live,
    claim,
    lab,
    league,
    parts,
    papers,
    workloads,
    explain,
    forecast,
    link,
):
    app.command(command)


def main() -> None:
    """Run the command line; bad input ends with one sentence and exit code 2."""
    with contextlib.suppress(FileNotFoundError):  # somebody removed the working directory
        sys.path.append(str(Path.cwd()))  # so that recipes find an optimizer in a file of yours
    try:
        app(sys.argv[1:], error_console=Console(stderr=True), exit_on_error=False)
    except CycloptsError:  # already told
        sys.exit(2)
    except SoonerError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"sooner: {error}", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("sooner: stopped")
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away, as with `| head`
        sys.stderr.close()
        sys.exit(141)
