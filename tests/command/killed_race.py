"""Races the command that it is given, in the folder that it runs in."""

import sys
from pathlib import Path

from forked_workers import start_here

from sooner.command.plan import CommandPlan, program_of
from sooner.command.template import read
from sooner.command.trying import Trying, try_out
from sooner.race.referee import run


def race():
    commands = [read(sys.argv[1])]
    program = program_of(commands, "val_loss")
    tried = try_out(Trying(commands, program, steps=40, out=Path("kept")), jobs=1, told=lambda cells: None)
    run(CommandPlan(tried.program, tried.commands, steps=40, tune=0, looks=(6,), jobs=1, out=Path("kept")))


if __name__ == "__main__":
    start_here()
    race()
