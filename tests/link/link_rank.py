"""What the ranks of the tests do; no PyTorch, so that they start at once."""

import contextlib
import fcntl
import itertools
import os
import socket
import struct
import sys
import time

RANK = int(os.environ["RANK"])
PLACE = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
UP, SIOCGIFFLAGS = 1, 0x8913


def connected():
    while True:
        try:
            return socket.create_connection(PLACE, timeout=2)
        except OSError:
            time.sleep(0.02)


def send(count):
    """Rank 0 sends so many bytes to every other rank."""
    if RANK:
        received = 0
        with connected() as connection:
            connection.settimeout(None)
            while found := connection.recv(1 << 16):
                received += len(found)
        print("received", received)
        return
    with socket.create_server(PLACE) as server:
        for _ in range(int(os.environ["WORLD_SIZE"]) - 1):
            connection, _ = server.accept()
            with connection:
                connection.sendall(bytes(count))


def flood(seconds):
    """Rank 0 sends what it can for a while."""
    if RANK:
        with connected() as connection:
            connection.settimeout(None)
            while connection.recv(1 << 16):
                pass
        return
    with socket.create_server(PLACE) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)  # what waits in there would be sent later
        connection, _ = server.accept()
        begun = time.monotonic()
        connection.setblocking(False)
        while time.monotonic() - begun < seconds:
            try:
                connection.send(bytes(1 << 16))
            except BlockingIOError:
                time.sleep(0.005)


def datagrams(count):
    """Rank 0 sends datagrams, rank 1 counts those that arrive until it hears the end."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        if RANK:
            with connected():
                pass
            one.bind(("0.0.0.0", PLACE[1]))
            with connected():  # ready
                arrived = 0
                while (found := one.recv(2000)) != b"end":
                    arrived += found == b"data"
            print("arrived", arrived)
            return
        with socket.create_server(PLACE) as server:
            peer = server.accept()[1][0]
            heard, _ = server.accept()
            heard.setblocking(False)
            for number in itertools.count():
                one.sendto(b"data" if number < count else b"end", (peer, PLACE[1]))
                time.sleep(0.0005)
                with contextlib.suppress(BlockingIOError):
                    heard.recv(1)  # it is closed: an end has arrived
                    return


def until_down():
    """Rank 1 ends when its interface is down; rank 0 ends at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        request = struct.pack("16sH14s", os.environ["GLOO_SOCKET_IFNAME"].encode(), 0, b"")
        while RANK and struct.unpack("16sH14s", fcntl.ioctl(one, SIOCGIFFLAGS, request))[1] & UP:
            time.sleep(0.01)


def fail(number):
    """One rank fails, the others wait."""
    if number == RANK:
        print("an unhappy end", file=sys.stderr)
        sys.exit(3)
    wait()


def wait(_marker=0):
    print("waiting", flush=True)
    time.sleep(1000)


def take():
    """Ask for the port of the rendezvous as somebody would who was given it by chance."""
    with socket.socket() as one:
        try:
            one.bind(PLACE)
        except OSError:
            print("in use")


def tell():
    print(*(f"{name}={os.environ[name]}" for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "OMP_NUM_THREADS")))


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    globals()[name](*map(int, numbers))
