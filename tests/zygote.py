"""A process that has imported PyTorch and sooner, and forks: what it forks runs a test's script without importing them.

It reads a request per line from standard input, as JSON, writes the process id of each to standard output, and at its
end the exit code and the seconds of the processor. It ends with its input, and with it everything that it has started.
"""

import json
import os
import runpy
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path

os.environ["TORCH_CPP_LOG_LEVEL"] = "FATAL"  # as the command line does, but before the import
import torch
from torch import distributed  # noqa: F401, so that what is forked need not
from torch.distributed.tensor import DTensor  # noqa: F401

import sooner.cli.train  # noqa: F401


def become(words, environment, out, error):
    """Run a script, or ``-m`` and a module, as an interpreter started with these words would."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for descriptor, file in ((0, os.devnull), (1, out), (2, error)):
        opened = os.open(file, os.O_CREAT | os.O_RDWR | (os.O_APPEND if descriptor else 0))
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")


def ended():
    """Tell of everything that has ended."""
    with suppress(ChildProcessError):
        while (found := os.wait4(-1, os.WNOHANG))[0]:
            pid, status, used = found
            print(json.dumps([pid, os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime]), flush=True)
            living.discard(pid)


living = set()


def main():
    torch.set_num_threads(1)
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    while True:
        ready, _, _ = select.select([requests, wake], [], [])
        if wake in ready:
            os.read(wake, 1 << 10)
            ended()
        if requests in ready:
            line = requests.readline()
            if not line:
                break
            child = os.fork()
            if child == 0:
                become(**json.loads(line))
                return
            living.add(child)
            print(json.dumps([child, None, 0.0]), flush=True)
    for child in living:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
