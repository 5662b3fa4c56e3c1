"""`dmtl serve` as a process: without torch, on a socket, until a signal; and what ends it before."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving_over_http import point, publish_two
from worlds import dmtl

# the libraries that train are not there, as in an installation that only serves
BARE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "onnx", "sklearn", "pandas", "matplotlib", "safetensors"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
from dmtl_cli.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_two(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def process(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server and its address."""
    command = [sys.executable, "-W", "error", "-c", BARE, "serve", str(home), "--port", "0", "--poll", "1s"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            line = server.stderr.readline()
            found = re.search(
                r"serves day 2026-01-01, run \w{12}: 40 users, 60 items, at (http://127.0.0.1:\d+)\n", line
            )
            assert found, line + (server.stderr.read() if server.poll() is not None else "")
            yield server, found[1]
        finally:
            server.kill()


def test_a_process_serves_swaps_and_drains(process: tuple[subprocess.Popen[str], str], home: Path) -> None:
    server, url = process
    runs = sorted(home.glob("export/day=*/run-*"))
    with httpx.Client(base_url=url, timeout=30) as client:
        assert client.get("/healthz").json()["run_id"] == runs[0].name[4:]
        assert len(client.post("/recommend", json={"user": "4"}).json()["results"][0]["items"]) == 20
        taken = dmtl("serve", home, "--port", url.rpartition(":")[2])
        assert taken.code == 73 and "cannot listen at 127.0.0.1" in taken.err
        point(home, runs[1])
        assert server.stderr is not None
        assert f"serves day 2026-01-02, run {runs[1].name[4:]}" in server.stderr.readline()
        assert client.get("/healthz").json()["run_id"] == runs[1].name[4:]
        answers: list[httpx.Response] = []
        body = {"users": ["4", "6", "8"] * 333, "k": 30}
        threads = [
            threading.Thread(target=lambda: answers.append(httpx.post(f"{url}/recommend", json=body, timeout=30)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        counted = re.compile(r'code="200",path="/recommend"} (\d+)')
        end = time.monotonic() + 20
        while int(counted.findall(client.get("/metrics").text)[0]) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        server.send_signal(signal.SIGTERM)  # others are open, or wait
        for thread in threads:
            thread.join()
    assert [len(answer.json()["results"]) for answer in answers if answer.status_code == 200] == [999] * 3
    assert server.wait(20) == 0
    out, err = server.communicate()
    assert (out, err) == ("", "dmtl: stopped\n")


def test_what_it_cannot_start_with(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = dmtl("serve", tmp_path, "--port", 0)
    assert none.code == 66 and "no export is served" in none.err
    shutil.copytree(home / "export", tmp_path / "served")
    (next(tmp_path.glob("served/day=2026-01-02/run-*")) / "users.parquet").unlink()
    (tmp_path / "served" / "LATEST").write_text(
        next(tmp_path.glob("served/day=2026-01-02/run-*")).relative_to(tmp_path / "served").as_posix()
    )
    damaged = dmtl("serve", tmp_path / "served", "--port", 0)
    assert damaged.code == 65 and "users.parquet is missing" in damaged.err
    items = dmtl("serve", home, "--port", 0, "--items", tmp_path / "none.csv")
    assert items.code == 66 and "none.csv: there is no such file" in items.err
    long = dmtl("serve", home, "--host", "a" * 70)
    assert long.code == 73 and "cannot listen at aaa" in long.err
    assert dmtl("serve", home, "--poll", "soon").code == dmtl("serve", home, "--poll", "0").code == 2
    assert dmtl("serve", home, "--port", 65536).code == 2
    monkeypatch.setitem(sys.modules, "fastapi", None)
    extra = dmtl("serve", home)
    assert extra.code == 69 and "pip install -e '.[serve]'" in extra.err
