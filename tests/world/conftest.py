"""Processes that train together, as torchrun would start them, ended with the test that started them."""

import os
import subprocess
import sys

import pytest

from sooner.link._supervisor import held_port


class Ranks:
    """Some processes of one command, with what each wrote to its streams."""

    def __init__(self, command, count, folder, **environment):
        self.port = held_port()
        self.files = [(folder / f"out-{rank}").open("w+") for rank in range(count)]
        self.errors = [(folder / f"err-{rank}").open("w+") for rank in range(count)]
        shared = {
            **os.environ,
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.port.getsockname()[1]),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            **environment,
        }
        self.processes = [
            subprocess.Popen(
                [sys.executable, *map(str, command)],
                env={**shared, "RANK": str(rank)},
                stdout=self.files[rank],
                stderr=self.errors[rank],
            )
            for rank in range(count)
        ]

    def codes(self):
        """Wait for all of them and return their exit codes."""
        return [process.wait() for process in self.processes]

    def said(self, rank):
        """What a rank wrote to standard error."""
        self.errors[rank].seek(0)
        return self.errors[rank].read()

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()
        for file in (self.port, *self.files, *self.errors):
            file.close()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Starts processes: ranks(command, count, FAULT="kill 1 5")."""
    started = []

    def start(command, count=2, **environment):
        started.append(Ranks(command, count, tmp_path_factory.mktemp("ranks"), **environment))
        return started[-1]

    yield start
    for one in started:
        one.end()
