"""An S3-compatible server on loopback, and servers that answer with failures."""

from __future__ import annotations

import contextlib
import http.server
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

SERVE = """
import time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
time.sleep(3600)
"""


def url(endpoint: str, path: str) -> str:
    """What stands in data.root."""
    return f"s3://{path}?endpoint_override={endpoint}&scheme=http&region=us-east-1"


@dataclass(frozen=True)
class Server:
    """A running server with one bucket, `bucket`."""

    process: subprocess.Popen[str]
    endpoint: str

    @property
    def fs(self) -> fs.S3FileSystem:
        return fs.S3FileSystem(
            endpoint_override=self.endpoint, scheme="http", region="us-east-1", allow_bucket_creation=True
        )

    def root(self, path: str) -> str:
        return url(self.endpoint, f"bucket/{path}")

    def upload(self, folder: Path, path: str) -> str:
        """Copies a folder; its data.root."""
        fs.copy_files(str(folder), f"bucket/{path}", destination_filesystem=self.fs)
        return self.root(path)

    def put(self, path: str, content: bytes) -> None:
        with self.fs.open_output_stream(f"bucket/{path}") as sink:
            sink.write(content)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            server = Server(process, f"http://127.0.0.1:{int(process.stdout.readline())}")
            server.fs.create_dir("bucket")
            yield server
        finally:
            process.kill()


@contextlib.contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """The endpoint of a server that answers every request with one failure."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with _served(Handler) as place:
        yield place


@contextlib.contextmanager
def _served(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def listing_milliseconds(endpoint: str) -> Iterator[str]:
    """The endpoint of what passes on to a server, and lists times to the millisecond as MinIO and Ceph do: what all of
    them say of one file is of whole seconds, as HTTP has it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urllib.request.Request(endpoint + self.path, None, dict(self.headers), method=self.command)
            try:
                answer = urllib.request.urlopen(asked)
            except urllib.error.HTTPError as refusal:
                answer = refusal
            with answer:
                body = answer.read().replace(b".000Z</LastModified>", b".123Z</LastModified>")
            self.send_response(answer.status)
            for name in ("Content-Type", "Last-Modified", "ETag"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(body)) if body else answer.headers.get("Content-Length", "0"))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None: ...

    with _served(Handler) as place:
        yield place
