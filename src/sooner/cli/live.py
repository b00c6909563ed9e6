"""`sooner live`: serve a page of a race on this machine's own loopback interface."""

from __future__ import annotations

import importlib.util
import secrets
import socket
import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from sooner.cli.numbers import Whole
from sooner.error import SoonerError

HOST = "127.0.0.1"


def live(
    folder: Path,
    /,
    *,
    port: Whole = 8765,
    open: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Show a race on a page while it runs: its cells, curves, intervals as they narrow, and an estimate.

    The page is on this machine only; for one that you reach by ssh, forward it: ssh -L 8765:127.0.0.1:8765 MACHINE. The
    address that is printed carries a token, without which the page can be looked at but the race not stopped.

    Parameters
    ----------
    folder
        The folder of a race that is running, or has ended.
    port
        Where to listen; 0 for any port that is free.
    open
        Open the page in the browser.
    """
    if missing := [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]:
        raise SoonerError(f"{' and '.join(missing)} not installed: pip install 'sooner[live]'")
    if port > 65535:
        raise SoonerError(f"--port {port} is not a port; choose one up to 65535, or 0 for any that is free")
    import uvicorn

    from sooner.live.app import make
    from sooner.live.state import Folder

    seen, token = Folder(folder), secrets.token_urlsafe(16)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()  # whoever opens the address at once waits until it is served
    except OSError as error:
        listening.close()
        raise SoonerError(
            f"cannot listen on port {port} ({error.strerror}); choose another --port, or 0 for any"
        ) from None
    address = f"http://{HOST}:{listening.getsockname()[1]}/#token={token}"
    Console(highlight=False).print(f"{address}\nCtrl-C ends the page; the race goes on", markup=False, soft_wrap=True)
    if open:
        webbrowser.open(address)
    config = uvicorn.Config(make(seen, token), log_level="warning", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listening])
