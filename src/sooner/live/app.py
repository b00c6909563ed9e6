"""The web application: a page, what it draws every second, the finished report, and stopping with a token."""

from __future__ import annotations

import hmac
import importlib.resources
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sooner.error import SoonerError
from sooner.live.state import Folder
from sooner.report import html

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
FILES = {"page.html": "text/html", "live.css": "text/css", "live.js": "text/javascript"}


def make(folder: Folder, token: str) -> Starlette:
    """Return the application.

    Args:
        folder: the race's folder.
        token: what a request to stop the race has to carry; whoever only looks needs none.
    """

    def file(name: str) -> Response:
        content = importlib.resources.files("sooner.live").joinpath("page", name).read_bytes()
        return Response(content, media_type=FILES[name], headers={**HEADERS, "Content-Security-Policy": POLICY})

    async def page(request: Request) -> Response:
        return file("page.html")

    async def part(request: Request) -> Response:
        return file(request.url.path.removeprefix("/"))

    async def state(request: Request) -> Response:
        have = request.query_params.get("have", "0")
        try:
            told = await run_in_threadpool(folder.state, int(have) if have.isdigit() else 0)
        except SoonerError as error:
            return JSONResponse({"error": str(error)}, 503, headers=HEADERS)
        return JSONResponse(told, headers=HEADERS)

    async def report(request: Request) -> Response:
        result: dict[str, Any] | None = await run_in_threadpool(folder.result)
        if result is None:
            return PlainTextResponse("the race is still running; its report comes at the end", 404, headers=HEADERS)
        return HTMLResponse(await run_in_threadpool(html.page, result), headers=HEADERS)

    async def stop(request: Request) -> Response:
        if not hmac.compare_digest(request.headers.get("x-token", "").encode(), token.encode()):
            return JSONResponse(
                {"error": "wrong token: use the address that `sooner live` printed"}, 403, headers=HEADERS
            )
        try:
            folder.stop()
        except SoonerError as error:
            return JSONResponse({"error": str(error)}, 409, headers=HEADERS)
        return JSONResponse({"stopped": True}, headers=HEADERS)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/live.css", part),
            Route("/live.js", part),
            Route("/state", state),
            Route("/report", report),
            Route("/stop", stop, methods=["POST"]),
        ],
        # a page of another site that makes its own name lead here gets nothing
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    )
