"""Cell functions for the tests of the worker pool, and what they need to look at processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from sooner.error import SoonerError


def square(payload, report):
    report(0.5, {"half": payload["x"] / 2})
    return {"square": payload["x"] ** 2, "pid": os.getpid()}


def environment(payload, report):
    import hashlib

    return {
        "threads": [os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")],
        "order": "".join({hashlib.md5(str(n).encode()).hexdigest() for n in range(50)}),
        "torch": "torch" in sys.modules,
        "main": sys.modules["__main__"].__file__,
    }


def torch_threads(payload, report):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    return {"threads": before}


def misbehave(payload, report):
    """Do what the payload says; leave a line in payload["log"] for every attempt."""
    with Path(payload["log"]).open("a") as log:
        log.write(f"{os.getpid()}\n")
    attempts = len(Path(payload["log"]).read_text().splitlines())
    report(0.1)
    match payload["how"]:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill once" if attempts == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        case "abort":
            print("the disk is on fire", file=sys.stderr, flush=True)
            os.abort()
        case "print":
            print("all is well", file=sys.stderr, flush=True)
        case "exit":
            sys.exit(3)
        case "exit after answering":
            report(1.0, {"last": True})
            os._exit(0)
        case "hang":
            time.sleep(3600)
        case "hang, then exit" if attempts == 1:
            time.sleep(3600)
        case "hang, then exit":
            os._exit(7)
        case "close everything":
            os.closerange(3, 256)
        case "hang up":
            # of a duplicate, as a socket closes its descriptor when it is collected, and the worker would see that
            socket.socket(fileno=os.dup(int(sys.argv[1]))).shutdown(socket.SHUT_WR)
            time.sleep(3600)
        case "chatter":
            for index in range(200):
                print("chatter " * 1000)
                report(index / 200)
        case "raise":
            raise ValueError("the loss is a frog")
        case "raise without words":
            raise KeyError
        case "raise for people":
            raise SoonerError("lr is -1: it must be above 0")
        case "return a list":
            return [1]
        case "return a set":
            return {"set": {1}}
    return {"attempts": attempts}


def wait_for_file(payload, report):
    """Report until the file payload["until"] exists."""
    while not Path(payload["until"]).exists():
        report(0.5, {"pid": os.getpid()})
        time.sleep(0.1)
    return {}


def forever(payload, report):
    report(0.5, {"pid": os.getpid()})
    time.sleep(3600)
    return {}


def deaf(payload, report):
    """Report once, then compute in one C call that never lets another thread of this process run."""
    report(0.5, {"pid": os.getpid()})
    return {"x": sum(range(10**15))}


def alive(pid):
    """Whether the process runs (one that has ended and waits for its parent to notice does not)."""
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return status.strip() != "" and not status.startswith("Z")


def wait_until_gone(pids):
    """Return once none of the processes runs; the time limit of the test is the limit."""
    while any(alive(pid) for pid in pids):
        time.sleep(0.02)
