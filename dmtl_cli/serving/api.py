"""The HTTP API: routes, limits, and one form for whatever is refused."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dmtl_cli import __version__
from dmtl_cli.serving.answers import Answers, Refused
from dmtl_cli.serving.metrics import Metrics
from dmtl_cli.serving.requests import Health, Made, Problem, Recommend, Recommended, Vectors
from dmtl_cli.serving.swapping import Served

LARGEST_BODY = 4 << 20
WAITING = 256
"""requests at a time; one more is answered 503, as it would wait longer than its caller"""
_PATHS = {"/recommend", "/vectors", "/healthz", "/metrics"}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "An unknown feature or column, a value of another type."},
    404: {"model": Problem, "description": "The user is not known, and no features are given."},
    413: {"model": Problem, "description": f"A body of more than {LARGEST_BODY >> 20} MiB."},
    422: {"model": Problem, "description": "Not what is expected here."},
    500: {"model": Problem, "description": "A bug, or a damaged export."},
    503: {"model": Problem, "description": "Nothing is loaded yet, or too many requests wait."},
}


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: _REFUSALS[code] for code in codes}


def application(served: Served, metrics: Metrics, threads: Executor, say: Callable[[str], None]) -> Guard:
    """The server as an ASGI application.

    Args:
        threads: where requests are computed, while others are received.
        say: takes a line about a bug.
    """
    api = FastAPI(title="dmtl serve", version=__version__, description="The best items of users, from an export.")

    async def answered(work: Callable[[Answers], dict[str, Any]]) -> Response:
        now = served.now
        if now is None:
            raise Refused(503, "no export is loaded yet; try again")
        body = await asyncio.get_running_loop().run_in_executor(threads, lambda: _json(work(now)))
        return Response(body, media_type="application/json")

    @api.post("/recommend", response_model=Recommended, responses=refusals(400, 404, 413, 422, 500, 503))
    async def recommend(asked: Recommend) -> Response:
        """The best items of one user or of many, known or not."""

        def work(now: Answers) -> dict[str, Any]:
            found = now.recommend(asked)
            metrics.users.inc(sum(bool(result["items"]) for result in found["results"]))
            return found

        return await answered(work)

    @api.post("/vectors", response_model=Made, responses=refusals(400, 413, 422, 500, 503))
    async def vectors(asked: Vectors) -> Response:
        """Vectors by raw values: of an item that is new, of users for a search of one's own."""
        return await answered(lambda now: now.vectors(asked))

    @api.get("/healthz", response_model=Health, responses=refusals(503))
    async def healthz() -> Response:
        """What is served, and since when; 503 until the first export is loaded."""
        if served.now is None:
            raise Refused(503, "no export is loaded yet; try again")
        return Response(_json(_health(served.now, served.problem, served.items_problem)), media_type="application/json")

    @api.get("/metrics", response_class=Response)
    async def prometheus() -> Response:
        """For Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    api.add_exception_handler(Refused, _refused)
    api.add_exception_handler(HTTPException, _http)
    api.add_exception_handler(RequestValidationError, _malformed)
    api.add_exception_handler(Exception, _bug)
    return Guard(api, metrics, say)


def _health(now: Answers, problem: str | None, items_problem: str | None) -> dict[str, Any]:
    age = dt.datetime.now(dt.UTC).date() - now.day
    seconds = round(time.monotonic() - now.since, 1)
    counts = {"users": len(now.users), "items": len(now.export.items[0])}
    return (
        {"status": "ok", **now.identity, "age_days": age.days, "loaded_seconds": seconds}
        | counts
        | {"problem": problem, "items_problem": items_problem}
    )


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _problem(status: int, text: str) -> Response:
    headers = {"Retry-After": "1"} if status == 503 else None
    return Response(_json({"error": " ".join(text.split())[:400]}), status, headers, "application/json")


async def _refused(_: Request, e: Exception) -> Response:
    assert isinstance(e, Refused)
    return _problem(e.status, str(e))


async def _http(_: Request, e: Exception) -> Response:
    assert isinstance(e, HTTPException)
    return _problem(e.status_code, str(e.detail))


async def _bug(_: Request, e: Exception) -> Response:
    return _problem(500, f"a bug: {type(e).__name__}; see what the server printed")


async def _malformed(request: Request, e: Exception) -> Response:
    assert isinstance(e, RequestValidationError)
    first = e.errors()[0]
    if first["loc"] == ("body",) and "json" not in request.headers.get("content-type", ""):
        return _problem(422, "expected an object of JSON, with the header Content-Type: application/json")
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    said = str(first["msg"]).removeprefix("Value error, ").replace("Input should", "it should")
    if first["type"] == "string_type" and type(given := first.get("input")) is int:
        said += f': ids are texts in JSON, "{given}"'
    return _problem(422, f"{where}: {said}" if where else said)


class Guard:
    """Around the API: bodies of bounded size, as many requests at a time, counts, and a bug as one line and a 500."""

    def __init__(self, api: ASGIApp, metrics: Metrics, say: Callable[[str], None]) -> None:
        self._api, self._metrics, self._say = api, metrics, say
        self._working = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._api(scope, receive, send)
        path = scope["path"] if scope["path"] in _PATHS else "other"
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            body = await _body(receive)
        except _Gone:
            return self._metrics.requests.labels(path, "499").inc()  # nginx's number; nobody is answered
        began = time.perf_counter()
        self._working += 1
        try:
            if body is None:
                refusal = _problem(413, f"expected a body of at most {LARGEST_BODY >> 20} MiB")
                await refusal(scope, receive, watched)
            elif self._working > WAITING and path in ("/recommend", "/vectors"):
                await _problem(503, "too many requests wait; try again")(scope, receive, watched)
            else:
                await self._api(scope, _again(body, receive), watched)
        except Exception as e:
            at = traceback.extract_tb(e.__traceback__)[-1]
            said = " ".join(f"{type(e).__name__}: {e}".split())[:300]
            self._say(f"dmtl: error: {path}: {said} ({Path(at.filename).name}:{at.lineno})")
        finally:
            self._working -= 1
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - began)


class _Gone(Exception):
    """The caller hung up before the whole body was there."""


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where it is too large. Raises _Gone."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _Gone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """A `receive` that gives a body that was read already, then what comes after it."""
    waiting = [body]

    async def given() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return given
