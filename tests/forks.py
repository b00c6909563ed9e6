"""Processes for tests that need several, forked from one that has imported PyTorch, which takes seconds."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

from sooner.link._supervisor import held_port


class Zygote:
    """Starts processes: ``start(words, folder, name)`` runs a script, or ``-m`` and a module, with these arguments.

    It begins with the first of them.
    """

    def __init__(self):
        self.process = None
        self.codes = {}

    def _begin(self):
        self.requests, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("zygote.py"))],
                stdin=theirs.fileno(),
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
            )
        self.answers = self.requests.makefile("rb", buffering=0)

    def start(self, words, folder, name, *, group=False, cwd=None, **environment):
        """Start one that writes to files in the folder; in a process group or working directory of its own if asked."""
        out, error = folder / f"out-{name}", folder / f"err-{name}"
        for file in (out, error):
            file.write_text("")
        request = {"words": [*map(str, words)], "out": str(out), "error": str(error), "group": group}
        request["cwd"] = str(cwd or Path.cwd())
        request["environment"] = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        return Forked(self, self._ask(request), out, error)

    def worker(self, words, *, pass_fds, env, **_):
        """Start the worker of a pool, in the place of `subprocess.Popen`."""
        out, theirs = os.pipe()
        pid = self._ask({"environment": env}, [*pass_fds, theirs])
        os.close(theirs)
        return ForkedWorker(self, pid, os.fdopen(out, "rb", buffering=0))

    def _ask(self, request, descriptors=()):
        if self.process is None:
            self._begin()
        message = json.dumps({"cwd": str(Path.cwd()), **request}).encode() + b"\n"
        sent = socket.send_fds(self.requests, [message], descriptors)
        self.requests.sendall(message[sent:])
        while (told := self.listen())[1] is not None:
            pass
        return told[0]

    def listen(self):
        """Wait for one answer: [process id, exit code or None where it has just begun]."""
        line = self.answers.readline()
        assert line, "the process that forks has ended"
        pid, code = json.loads(line)
        if code is not None:
            self.codes[pid] = code
        return pid, code

    def waiting(self):
        """Whether there is an answer."""
        return bool(select.select([self.requests], [], [], 0)[0])

    def end(self):
        if self.process is not None:
            self.answers.close()
            self.requests.close()
            self.process.wait()


class ForkedWorker:
    """The worker of a pool, as `subprocess.Popen` would have it."""

    def __init__(self, zygote, pid, stdout):
        self.zygote, self.pid, self.stdout = zygote, pid, stdout

    def poll(self):
        while self.pid not in self.zygote.codes and self.zygote.waiting():
            self.zygote.listen()
        return self.zygote.codes.get(self.pid)

    def wait(self, timeout=None):
        while self.pid not in self.zygote.codes:
            self.zygote.listen()
        return self.zygote.codes[self.pid]

    def kill(self):
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended just now
                os.kill(self.pid, signal.SIGKILL)


class Forked:
    """One process: what it wrote, and how it ended."""

    def __init__(self, zygote, pid, out, error):
        self.zygote, self.pid, self.out, self.error = zygote, pid, out, error

    def wait(self):
        """Wait for its end and return its exit code; a test that waits in vain meets the time limit of every test."""
        while self.pid not in self.zygote.codes:
            self.zygote.listen()
        return self.zygote.codes[self.pid]

    def kill(self):
        if self.pid not in self.zygote.codes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class Ranks:
    """Some processes of one command, started as torchrun would, with what each wrote to its streams.

    The port of their rendezvous is held from the start, so that nobody can take it before rank 0 listens there.
    """

    def __init__(self, zygote, words, count, folder, environment):
        self.port = held_port()
        shared = {
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.port.getsockname()[1]),
            "GLOO_SOCKET_IFNAME": "lo",
            **environment,
        }
        self.processes = [
            zygote.start(words, folder, rank, **shared, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(count)
        ]

    def codes(self, *ranks):
        """Wait for all of them, or for these, and return their exit codes."""
        return [process.wait() for rank, process in enumerate(self.processes) if not ranks or rank in ranks]

    def printed(self, rank):
        """What a rank wrote to standard output."""
        return self.processes[rank].out.read_text()

    def said(self, rank):
        """What a rank wrote to standard error."""
        return self.processes[rank].error.read_text()

    def succeed(self):
        """Wait for all of them; they must end well."""
        codes = self.codes()
        assert not any(codes), "\n".join(f"rank {n}: {code}\n{self.said(n)[-3000:]}" for n, code in enumerate(codes))

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.port.close()
