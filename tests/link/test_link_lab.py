"""The link lab: what is typed wrong, what the ranks get, what is counted, and what is left behind."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from sooner.error import SoonerError
from sooner.link import Cut, Kill, Lab, parse_cut, parse_kill, parse_loss, parse_rate
from sooner.link._lab import written_rate
from sooner.link._supervisor import held_port

RATE = 50e6
RANK = Path(__file__).with_name("link_rank.py")


def programs(folder, *names, **fakes):
    """Return a PATH on which there are these programs only, and those that `fakes` makes of shell."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(shutil.which(name))
    for name, text in fakes.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    ("text", "bits"),
    [("100mbit", 1e8), ("1.5 Gbit/s", 1.5e9), ("512kbit", 512e3), ("20Mbit", 2e7), ("20mbps", None), ("9000bit", 9e3)],
)
def test_rates_are_read_as_people_write_them(text, bits):
    if bits is None:  # megabits to some, megabytes to tc
        with pytest.raises(SoonerError, match="write it as 100mbit"):
            parse_rate("20mb/s")
    else:
        assert parse_rate(text) == bits


@given(st.floats(1e4, 1e11))
def test_a_written_rate_is_read_as_itself(rate):
    number, unit = written_rate(rate).split()
    assert parse_rate(f"{float(number):.12f} {unit}") == pytest.approx(rate, rel=1e-4)


def test_faults_are_read_as_people_write_them():
    assert parse_cut("1@2.5") == Cut(1, 2.5)
    assert parse_cut("1@2:0.5") == Cut(1, 2.0, 0.5)
    assert parse_kill("0@3") == Kill(0, 3.0)
    assert parse_loss("1%") == 0.01


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "there is no command"),
        (["--rate", "fast", "--", "true"], "'fast' is no rate"),
        (["--rate", "0mbit", "--", "true"], "'0mbit' is no rate"),
        (["--rate", "9bit", "--", "true"], "can't be kept"),
        (["--loss", "150%", "--", "true"], "leaves no link"),
        (["--loss", "0.01", "--", "true"], "is no loss"),
        (["--kill", "2@1", "--", "true"], "there is no rank 2"),
        (["--kill", "1", "--", "true"], "is not RANK@SECONDS"),
        (["--cut", "x@1", "--", "true"], "is not RANK@SECONDS"),
        (["--ranks", "0", "--", "true"], "0 ranks can't be run"),
        (["--timeout", "-1", "--", "true"], "--timeout -1 is no number of seconds"),
        (["--", "no-such-program"], "there is no program 'no-such-program'"),
        (["plan"], "give either a workload"),
        (["plan", "--parameters", "1e6"], "add --step"),
        (["plan", "--parameters", "5", "--step", "1"], "give 10000 or more"),
        (["plan", "--parameters", "1e5", "--step", "0"], "a step of 0 seconds can't be"),
        (["plan", "--parameters", "1e5", "--step", "1", "--workers", "1"], "1 workers send nothing"),
        (["plan", "--parameters", "1e5", "--step", "1", "--codecs", "top_q"], "did you mean 'top_k'"),
        (["plan", "--parameters", "1e5", "--step", "1", "--codecs", "adamw"], "adamw of 'adamw' sends nothing"),
        (["plan", "--parameters", "1e5", "--step", "1", "--codecs", "full"], "nothing to plan"),
    ],
)
def test_what_is_typed_wrong_gets_one_sentence(words, told, capsys, monkeypatch):
    from sooner.cli import main

    monkeypatch.setattr(sys, "argv", ["sooner", "link", *words])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as end:
        main()
    written = capsys.readouterr()
    assert end.value.code == 2
    assert told in " ".join(written.err.split())
    assert "Traceback" not in written.err


def test_ranks_get_the_environment_of_torchrun(namespaces, ranks):
    made = ranks(Lab(ranks=3), "tell")
    assert made.failure is None
    assert [r.last for r in made.ranks] == [f"RANK={r} WORLD_SIZE=3 LOCAL_RANK={r} OMP_NUM_THREADS=1" for r in range(3)]


@pytest.mark.parametrize("number", [2, 3])
def test_what_is_counted_is_what_was_sent(namespaces, ranks, number):
    size = 1_500_000
    made = ranks(Lab(rate=RATE, ranks=number), "send", size)
    assert made.failure is None
    assert made.measured
    first, *others = made.ranks
    assert (number - 1) * size < first.sent < 1.06 * (number - 1) * size
    for rank in others:
        assert rank.last == f"received {size}"
        assert size < rank.received < 1.06 * size
        assert rank.sent < 0.1 * size


def test_no_more_passes_than_the_rate_lets_through(namespaces, ranks):
    made = ranks(Lab(rate=2e6), "flood", 1)
    assert made.failure is None
    # whatever the machine is busy with can only make it less
    assert 0 < made.ranks[0].sent <= 2e6 / 8 * made.seconds + 2 * 65536


def test_packets_get_lost(namespaces, ranks):
    if shutil.which("iptables") is None:
        pytest.skip("iptables is missing")
    made = ranks(Lab(loss=0.1), "datagrams", 300)
    assert made.failure is None
    assert 0 < int(made.ranks[1].last.split()[1]) < 300


def test_a_cut_link_is_down(namespaces, ranks):
    assert ranks(Lab(cuts=(Cut(1, 0.0),)), "until_down").failure is None


def test_a_cut_link_comes_back(namespaces, ranks):
    made = ranks(Lab(cuts=(Cut(1, 0.0, 0.2),)), "send", 1000)
    assert made.failure is None
    assert made.ranks[1].last == "received 1000"


def test_a_killed_rank_is_named_and_the_others_end(namespaces, sooner):
    told = sooner.call("--kill", "1@0", "--wait", "0.1", "--", sys.executable, RANK, "wait")
    assert told.code == 1
    assert "sooner: rank 1 killed by SIGKILL as --kill asked after" in told.err
    assert "rank 0 killed by SIGTERM, ended with the others" in told.err
    assert "measured on links of no limit" in told.out


def test_a_failed_rank_is_named_with_its_code_and_last_line(namespaces, ranks):
    made = ranks(Lab(ranks=3, wait=0.1), "fail", 2)
    assert "rank 2 ended with exit code 3" in made.failure
    assert ": an unhappy end; ranks 0 and 1 killed by" in made.failure
    assert [rank.rank for rank in made.failed] == [2, 0, 1]


def test_time_is_up(namespaces, ranks):
    made = ranks(Lab(timeout=0.1), "wait")
    assert made.failure == "rank 0 had not ended after 0.1 s, the --timeout, and was ended; so was rank 1"


def test_json_is_all_that_is_on_standard_output(namespaces, sooner):
    told = sooner.call("--json", "--rate", "1gbit", "--", sys.executable, RANK, "tell")
    made = sooner.json(told)
    assert (told.code, made["link"], made["failure"], len(made["ranks"])) == (0, "measured", None, 2)
    assert "rank 1 | RANK=1" in told.err


def processes(marker):
    """Return the processes with this word in their command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if marker.encode() in words:
            found.append(int(place.parent.name))
    return found


def interfaces():
    return [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]


@pytest.mark.parametrize("real", [True, False], ids=["namespaces", "loopback"])
def test_nothing_survives_a_killed_parent(request, sooner, tmp_path, real):
    path = os.environ["PATH"]
    if real:
        request.getfixturevalue("namespaces")
    else:
        refusing = programs(tmp_path / "bin", unshare="echo unshare: not permitted >&2; exit 1")
        path = f"{refusing}:{path}"
    before, marker = interfaces(), f"{os.getpid()}00{real:d}"
    # the shell stays in between, so that there are processes that ranks have started
    command = ["sh", "-c", '"$1" "$2" wait "$0" & wait', marker, sys.executable, str(RANK)]
    words = [*sooner.words, "--rate", "10mbit", "--", *command]
    environment = {**sooner.environment, "PATH": path}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as one:
        started = {one.stdout.readline(), one.stdout.readline()}
        assert started == {"rank 0 | waiting\n", "rank 1 | waiting\n"}
        assert len(processes(marker)) >= 4  # two shells, and what they started
        one.send_signal(signal.SIGKILL)
        one.wait()
        while processes(marker):  # the test's own time limit ends this
            time.sleep(0.05)
    assert interfaces() == before


def test_where_namespaces_are_refused_the_link_is_modelled(sooner, tmp_path):
    refusing = programs(tmp_path / "bin", unshare="echo 'unshare: Operation not permitted' >&2; exit 1")
    path = f"{refusing}:{os.environ['PATH']}"
    told = sooner.call("--rate", "10mbit", "--json", "--", sys.executable, RANK, "send", 1_000_000, path=path)
    made = sooner.json(told)
    assert (told.code, made["link"]) == (0, "modelled")
    assert made["refusal"] == "unshare: Operation not permitted"
    rank = made["ranks"][0]
    assert rank["sent"] >= 500_000  # half of what went over the loopback interface
    assert rank["seconds_on_link"] == pytest.approx(rank["seconds"] + rank["sent"] * (1 + 66 / 1448) * 8 / 10e6)
    shown = sooner.call("--rate", "10mbit", "--", "true", path=path)
    assert "modelled for links of 10 Mbit/s" in shown.out
    assert "There are no network namespaces here (unshare: Operation not permitted)" in shown.out
    told = sooner.call("--cut", "0@1", "--", "true", path=path)
    assert told.code == 2
    assert "no packet can be lost and no link cut" in " ".join(told.err.split())


IP_LOCAL_PORT_RANGE = 51
"""An option of Linux 6.3: which ports this socket may be given where it asks for any."""


def only(port, reuse):
    """A socket to which the kernel may give this port and no other."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
    try:
        one.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("I", port << 16 | port))
    except OSError:
        pytest.skip("this kernel has no port range per socket")
    return one


@pytest.mark.parametrize("reuse", [False, True])
def test_a_held_port_is_given_to_nobody_who_asks_for_any(reuse):
    with held_port() as held, socket.create_server(("127.0.0.1", 0)) as server:
        port = held.getsockname()[1]
        with only(port, reuse) as listens, pytest.raises(OSError, match="in use"):
            listens.bind(("127.0.0.1", 0))
        with only(port, reuse) as connects, pytest.raises(OSError, match="Cannot assign"):
            connects.connect(server.getsockname())


@pytest.mark.parametrize("libuv", [False, True])
def test_the_store_of_torch_listens_at_a_held_port_again_and_again(libuv):
    with held_port() as held:
        port = held.getsockname()[1]
        for round_ in range(2):
            master, other = (
                dist.TCPStore("127.0.0.1", port, is_master=first, wait_for_workers=False, use_libuv=libuv)
                for first in (True, False)
            )
            other.set("round", str(round_))
            assert master.get("round") == str(round_).encode()
            del master, other


def test_ranks_on_the_loopback_interface_find_the_port_held(sooner, tmp_path):
    refusing = programs(tmp_path / "bin", unshare="echo unshare: not permitted >&2; exit 1")
    told = sooner.call("--json", "--", sys.executable, RANK, "take", path=f"{refusing}:{os.environ['PATH']}")
    assert [rank["last"] for rank in sooner.json(told)["ranks"]] == ["in use"] * 2


def test_a_network_that_can_not_be_made_is_modelled_too(namespaces, sooner, tmp_path):
    broken = programs(tmp_path / "bin", tc="echo 'Error: Specified qdisc kind is unknown.' >&2; exit 2")
    told = sooner.call("--rate", "10mbit", "--json", "--", "true", path=f"{broken}:{os.environ['PATH']}")
    made = sooner.json(told)
    assert made["link"] == "modelled"
    assert "qdisc kind is unknown" in made["refusal"]


def test_what_is_missing_is_named_with_the_remedy(namespaces, sooner, tmp_path):
    bare = programs(tmp_path / "bare", "unshare", "true")
    told = sooner.call("--rate", "10mbit", "--", "true", path=bare)
    assert told.code == 2
    assert "the program ip of iproute2 is missing; install it, as with: apt install iproute2" in told.err
    some = programs(tmp_path / "some", "unshare", "true", "ip", "tc")
    told = sooner.call("--loss", "1%", "--", "true", path=some)
    assert told.code == 2
    assert "--loss needs iptables" in told.err
