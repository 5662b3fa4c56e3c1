"""Loads a running `dmtl serve` over keep-alive connections, and prints requests a second, latency and errors as JSON.

    python scripts/load_test.py http://127.0.0.1:8000 --users IDS.txt --connections 8 --seconds 10 --batch 1

Each connection sends its next request when it has its last answer (a closed loop), of users drawn with a fixed seed.
Requests are encoded before the clock starts and answers are only cut apart, so that little of the time is the client's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np


def requests(host: str, users: list[str], batch: int, body: dict[str, object], number: int = 4096) -> list[bytes]:
    """Whole HTTP requests, of `batch` users each."""
    draw, out = random.Random(0), []
    for _ in range(number):
        whom = {"user": draw.choice(users)} if batch == 1 else {"users": draw.choices(users, k=batch)}
        text = json.dumps(whom | body).encode()
        head = f"POST /recommend HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        out.append(head.encode() + b"Content-Length: %d\r\n\r\n" % len(text) + text)
    return out


async def one_connection(host: str, port: int, todo: list[bytes], until: float) -> tuple[list[float], int]:
    """Seconds of each request, and how many were not answered with 200."""
    reader, writer = await asyncio.open_connection(host, port)
    seconds, errors, n = [], 0, 0
    while (began := time.perf_counter()) < until:
        writer.write(todo[n % len(todo)])
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        seconds.append(time.perf_counter() - began)
        errors += not head.startswith(b"HTTP/1.1 200")
        n += 1
    writer.close()
    return seconds, errors


async def load(url: str, todo: list[bytes], connections: int, seconds: float) -> dict[str, float]:
    place = urlsplit(url)
    host, port = place.hostname or "127.0.0.1", place.port or 80
    shares = [todo[k::connections] for k in range(connections)]
    await asyncio.gather(*(one_connection(host, port, share, time.perf_counter() + 1) for share in shares))  # warm
    began = time.perf_counter()
    done = await asyncio.gather(*(one_connection(host, port, share, began + seconds) for share in shares))
    wall = time.perf_counter() - began
    every = np.array([s for found, _ in done for s in found]) * 1e3
    return {
        "requests": len(every),
        "errors": sum(errors for _, errors in done),
        "requests_per_second": round(len(every) / wall, 1),
        "p50_ms": round(float(np.percentile(every, 50)), 2),
        "p99_ms": round(float(np.percentile(every, 99)), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--users", type=Path, required=True, help="an id a line")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--batch", type=int, default=1, help="users of a request")
    parser.add_argument("--body", type=json.loads, default={}, help="more of a request: '{\"k\": 50}'")
    args = parser.parse_args()
    users = args.users.read_text().split()
    todo = requests(urlsplit(args.url).netloc, users, args.batch, args.body)
    found = asyncio.run(load(args.url, todo, args.connections, args.seconds))
    print(json.dumps({"connections": args.connections, "batch": args.batch, **args.body, **found}))


if __name__ == "__main__":
    main()
