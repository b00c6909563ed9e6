"""Processes for tests that need several, forked from one that has imported PyTorch, which takes seconds."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from sooner.link._supervisor import held_port

_SPENT = [0.0]


def spent():
    """Seconds of the processor that forked processes have taken, those that have been waited for."""
    return _SPENT[0]


class Zygote:
    """Starts processes: ``start(words, folder, name)`` runs a script, or ``-m`` and a module, with these arguments."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            text=True,
        )
        self.codes = {}

    def start(self, words, folder, name, **environment):
        out, error = folder / f"out-{name}", folder / f"err-{name}"
        for file in (out, error):
            file.write_text("")
        request = {"words": [*map(str, words)], "out": str(out), "error": str(error)}
        request["environment"] = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        while (told := self.listen())[1] is not None:
            pass
        return Forked(self, told[0], out, error)

    def listen(self):
        """Read one answer: [process id, exit code or None where it has just begun]."""
        line = self.process.stdout.readline()
        assert line, "the process that forks has ended"
        pid, code, seconds = json.loads(line)
        if code is not None:
            self.codes[pid] = code
            _SPENT[0] += seconds
        return pid, code

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


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
