"""`dmtl serve`: one process that answers over HTTP and follows LATEST."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.extras import install

_DRAIN = 30  # seconds that open requests have to end after SIGTERM


def serve(
    root: Path,
    *,
    host: str,
    port: int,
    poll: float,
    threads: int,
    items: Path | None,
    say: Callable[[str], None],
) -> None:
    """Serves until a signal ends it: SIGTERM and SIGINT after open requests were answered.

    Args:
        root: a workspace, its export/, or the folder of one export.
        port: 0: any that is free, which `say` then names.
        poll: seconds between two looks at LATEST.
        threads: requests that are computed at a time.
        items: Parquet or CSV with item_id, and columns to filter by.
        say: takes a line at start, swap and error.

    Raises:
        UserError: 69 the libraries are not installed; 73 the address is taken; 66, 65, 74 nothing to serve.
    """
    uvicorn = _uvicorn()
    from dmtl_cli.serving.api import application
    from dmtl_cli.serving.metrics import Metrics
    from dmtl_cli.serving.swapping import Served

    metrics = Metrics()
    served = Served(root, items, metrics, say)
    over, failed = threading.Event(), []
    with _listening(host, port) as door, ThreadPoolExecutor(threads, "request") as pool:
        options = {"log_config": None, "access_log": False, "log_level": "critical", "lifespan": "off"}
        app = application(served, metrics, pool, say)
        server = uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=_DRAIN, **options))

        def follow() -> None:
            try:
                served.load()
            except BaseException as e:
                failed.append(e)
                server.should_exit = True
                return
            address, taken = door.getsockname()[:2]
            say(f"{served.line()}, at http://{f'[{address}]' if ':' in address else address}:{taken}")
            served.follow(poll, over.wait)

        follower = threading.Thread(target=follow, name="follow", daemon=True)
        follower.start()
        try:
            asyncio.run(server.serve([door]))
        finally:
            over.set()
    if failed:
        raise failed[0]


def _uvicorn() -> ModuleType:
    try:
        import fastapi  # noqa: F401
        import uvicorn
    except ImportError as e:
        raise UserError(f"serve needs {e.name}, which is not installed", install("fastapi"), Exit.NO_DEVICE) from None
    return uvicorn


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio turns Nagle's algorithm off where the protocol is named; else each answer may wait 40 ms
        door = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(address)
            door.listen(2048)
        except OSError:
            door.close()
            raise
        return door
    except (OSError, UnicodeError) as e:  # the latter: a part of the name is longer than any
        what = f"cannot listen at {host} port {port}: {getattr(e, 'strerror', None) or e}"
        raise UserError(what, "choose another --host or --port", Exit.CANNOT_CREATE) from None
