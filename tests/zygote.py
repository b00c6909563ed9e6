"""A process that has imported PyTorch and sooner, and forks: what it forks runs a test's script without importing them.

Its standard input is a socket with a line of JSON for each request. Each asks for a process; the answers, lines too,
are its process id, and at its end the exit code. It ends with its input, and with it everything that it has started.
"""

import json
import os
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

os.environ["TORCH_CPP_LOG_LEVEL"] = "FATAL"  # as the command line does, but before the import
import overhead
import torch
from forked_workers import serve
from torch import distributed  # noqa: F401, so that what is forked need not
from torch.distributed.tensor import DTensor  # noqa: F401

import sooner.cli.race
import sooner.cli.train
import sooner.command.cell
import sooner.race.cell
import sooner.race.world  # noqa: F401


def become(words, environment, out, error, group=False):
    """Run a script, or ``-m`` and a module, as an interpreter started with these words would."""
    if group:
        os.setsid()
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


def asked(requests):
    """Return the next request and the descriptors that came with it; None at the end."""
    text, given = b"", []
    while not text.endswith(b"\n"):
        try:
            more, descriptors, _, _ = socket.recv_fds(requests, 1 << 16, 2)
        except ConnectionResetError:  # whoever asks has ended with an answer unread
            more, descriptors = b"", []
        if not more:
            return None, given
        text, given = text + more, given + descriptors
    return json.loads(text), given


def tell(requests, *answer):
    requests.sendall(json.dumps(answer).encode() + b"\n")


def ended(requests, living):
    """Tell of everything that has ended."""
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = found
            tell(requests, pid, os.waitstatus_to_exitcode(status))
            living.discard(pid)


def main():
    torch.set_num_threads(1)
    overhead.spare()
    overhead.keep_imports()
    living = set()
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    requests = socket.socket(fileno=os.dup(0))
    while True:
        ready, _, _ = select.select([requests, wake], [], [])
        if wake in ready:
            os.read(wake, 1 << 10)
            ended(requests, living)
        if requests in ready:
            request, given = asked(requests)
            if request is None:
                break
            child = os.fork()
            if child == 0:
                os.chdir(request.pop("cwd"))
                signal.set_wakeup_fd(-1)
                for kept in (requests, wake, woken):
                    kept.close() if kept is requests else os.close(kept)
                if given:
                    serve(*given, request["environment"], orphan=True)
                become(**request)
                return
            for descriptor in given:
                os.close(descriptor)
            living.add(child)
            tell(requests, child, None)
    for child in living:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
