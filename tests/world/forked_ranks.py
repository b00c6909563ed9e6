"""Runs a command line of sooner on several ranks, forked from one process, so that PyTorch is imported once.

What they write goes to out-RANK and err-RANK in a folder, and how they ended to the standard output, as a list. A rank
that FAULT freezes is killed when the others have ended.
"""

import json
import os
import signal
import sys

os.environ["TORCH_CPP_LOG_LEVEL"] = "FATAL"  # as the command line does, but before the import
import sooner.cli.train  # noqa: F401, so that the ranks need not
from sooner.cli import main
from sooner.link._supervisor import held_port


def become(rank, folder, words):
    """Run the command line in this process, which is that of one rank."""
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{folder}/{name}-{rank}", os.O_CREAT | os.O_WRONLY), stream)
    os.environ["RANK"] = str(rank)
    sys.argv = ["sooner", *words]
    main()


if __name__ == "__main__":
    folder, count, *words = sys.argv[1:]
    port = held_port()  # as long as this process lives
    os.environ |= {"WORLD_SIZE": count, "MASTER_PORT": str(port.getsockname()[1])}
    started = {}
    for rank in range(int(count)):
        started[rank] = os.fork()
        if started[rank] == 0:
            become(rank, folder, words)
            sys.exit()
    how, victim, _ = [*os.environ.get("FAULT", "").split(), "", "", ""][:3]
    codes = {rank: os.waitpid(pid, 0)[1] for rank, pid in started.items() if how != "freeze" or str(rank) != victim}
    for rank in started.keys() - codes.keys():
        os.kill(started[rank], signal.SIGKILL)
        codes[rank] = os.waitpid(started[rank], 0)[1]
    print(json.dumps([os.waitstatus_to_exitcode(codes[rank]) for rank in sorted(codes)]))
