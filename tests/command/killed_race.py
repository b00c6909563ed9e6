"""Races a command in processes forked from this one, which has imported all it takes: one for each line it is given."""

import os
import sys
from pathlib import Path

from sooner.command.plan import CommandPlan, program_of
from sooner.command.template import read
from sooner.command.trying import Trying, try_out
from sooner.race.referee import run


def race():
    commands = [read(sys.argv[1])]
    program = program_of(commands, "val_loss")
    tried = try_out(Trying(commands, program, steps=40, out=Path("kept")), jobs=1, told=lambda cells: None)
    run(CommandPlan(tried.program, tried.commands, steps=40, tune=0, looks=(6,), jobs=1, out=Path("kept")))


for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            race()
            os._exit(0)
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
