"""Going back through the command line: rollback, its pin, and how a broken LATEST is healed."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from chains import Chain, day, line

from dmtl_cli.runs import disk
from dmtl_cli.runs.manifest import verify


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path, 4)


def test_the_export_before_is_served_and_pinned(chain: Chain) -> None:
    found = chain.called("rollback")
    assert found["day"] == str(day(3)) and found["served"] == str(chain.export(3)) and found["pinned"]
    assert found["served_before"] == str(chain.export(4))
    assert chain.pointer("LATEST") == chain.pointer("PINNED") == line(chain.export(3))
    assert chain.called("rollback")["day"] == str(day(2)), "and again the one before"
    ended = chain.project.call("rollback")
    assert ended.code == 66 and f"no published export before {day(2)}" in ended.err
    assert chain.pointer("LATEST") == line(chain.export(2)), "a rollback that fails changes nothing"


def test_what_is_published_while_pinned_is_not_served(chain: Chain) -> None:
    chain.called("rollback", "--to", day(3))
    chain.run(5)
    assert chain.pointer("LATEST") == line(chain.export(3))
    found = chain.status()
    assert found["pinned"] == found["served"] == str(chain.export(3)) and found["problems"] == []
    assert f"pinned: {chain.export(3)}; newer days are published and not served" in chain.project.call("status").out
    found = chain.called("rollback", "--unpin")
    assert found["day"] == str(day(5)) and not found["pinned"] and chain.pointer("PINNED") is None
    assert chain.pointer("LATEST") == line(chain.export(5)) and chain.status()["pinned"] is None
    chain.run(6)
    assert chain.pointer("LATEST") == line(chain.export(6)), "it follows the newest day again"


@pytest.mark.parametrize("shape", ["run-{}", "{}"])
def test_to_a_superseded_run(chain: Chain, shape: str) -> None:
    old = chain.export(4)
    chain.make("export", day(4), ("student", "profile"), "again")
    assert chain.pointer("LATEST") == line(chain.export(4)) != line(old)
    assert chain.called("rollback", "--to", shape.format(old.name[4:]))["served"] == str(old)


@pytest.mark.parametrize(
    ("to", "code", "told"),
    [
        (str(day(1)), 66, f"no published export of {day(1)}"),
        ("run-0123456789ab", 66, "no export run-0123456789ab"),
        ("yesterday", 2, "--to: expected a day as YYYY-MM-DD or a run"),
        ("../../x", 2, "--to: expected"),
    ],
)
def test_to_what_is_not_there(chain: Chain, to: str, code: int, told: str) -> None:
    ended = chain.project.call("rollback", "--to", to)
    assert ended.code == code and told in ended.err and chain.pointer("PINNED") is None
    assert chain.project.call("rollback", "--to", day(2), "--unpin").code == 2


def test_a_damaged_export_is_not_served(chain: Chain) -> None:
    (chain.export(3) / "file").write_text("EXPORT")
    ended = chain.project.call("rollback")
    assert ended.code == 65 and str(chain.export(3) / "file") in ended.err
    assert chain.pointer("LATEST") == line(chain.export(4)) and chain.pointer("PINNED") is None


def test_it_waits_its_turn(chain: Chain) -> None:
    lock = chain.project.ws / "locks" / "chain.lock"
    lock.parent.mkdir()
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert chain.project.call("rollback").code == chain.project.call("rollback", "--unpin").code == 75
    assert chain.pointer("LATEST") == line(chain.export(4))


@pytest.mark.parametrize("command", [("--to", str(day(2))), ("--unpin",)], ids=["to", "unpin"])
def test_a_fault_at_every_step_leaves_a_whole_run_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """The N-th change of the disk fails, for every N: what is served is the old or the new, whole; status says what to
    do where pin and LATEST differ; the same command again ends it, and so does the next day that is published."""
    for step in range(1, 40):
        chain = Chain(tmp_path / str(step), 4)
        chain.called("rollback", "--to", day(3))
        if (code := _fails_at(chain, step, command, monkeypatch)) is None:
            break
        assert code in (0, 74), "who holds the lock is not worth a failure"
        served = chain.ws.latest()
        assert served in (chain.export(3), chain.export(2), chain.export(4)) and verify(served)
        if chain.pointer("PINNED") not in (None, chain.pointer("LATEST")):
            assert "run dmtl rollback --to run-" in chain.status()["problems"][0]
            pinned = chain.pointer("PINNED")
            chain.run(5)
            assert chain.pointer("LATEST") == pinned, "the next day finishes what was begun"
        chain.called("rollback", *command)
        assert chain.status()["problems"] == []
    assert step > 8


def _fails_at(chain: Chain, step: int, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> int | None:
    """The exit code; None where the command makes fewer changes."""
    left = [step]

    def failing(real: Callable[..., object]) -> Callable[..., object]:
        def act(*arguments: object, **named: object) -> object:
            left[0] -= 1
            if not left[0]:
                raise OSError(28, "No space left on device")
            return real(*arguments, **named)

        return act

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(os.fsync))
        patch.setattr(os, "replace", failing(os.replace))
        patch.setattr(os, "unlink", failing(os.unlink))
        code = chain.project.call("rollback", *command).code
    return code if left[0] <= 0 else None


# -- a LATEST that names nothing, or a day to come ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "nonsense\n", "day=2026-01-04/run-0123456789ab\n", "day=2999-01-01/run-0123456789ab\n", "\x1b[31m\n"]
)
def test_status_names_a_broken_latest_and_its_advice_heals_it(chain: Chain, text: str) -> None:
    (chain.project.ws / "export/LATEST").write_text(text)
    ended = chain.project.call("status")
    assert ended.code == 65 and "run dmtl rollback --unpin" in ended.err and "\x1b" not in ended.err + ended.out
    assert "problem: " in ended.out and "run dmtl rollback --unpin" in ended.out and str(day(4)) in ended.out
    assert chain.status()["served"] is None
    assert chain.called("rollback", "--unpin")["day"] == str(day(4))
    assert chain.project.call("status").code == 0 and chain.status()["problems"] == []


@pytest.mark.parametrize("text", ["nonsense\n", "day=2999-01-01/run-0123456789ab\n"])
def test_the_next_publication_heals_a_broken_latest_too(chain: Chain, text: str) -> None:
    (chain.project.ws / "export/LATEST").write_text(text)
    chain.run(3, "again")
    assert chain.pointer("LATEST") == line(chain.export(4)), "to the newest day, not to the one that was made"


def test_a_lost_latest_is_named(chain: Chain) -> None:
    (chain.project.ws / "export/LATEST").unlink()
    assert any("there is no" in p and "--unpin" in p for p in chain.status()["problems"])
    assert chain.called("rollback", "--unpin")["day"] == str(day(4))


def test_a_day_to_come_is_named_and_left(chain: Chain) -> None:
    """A mistyped year must not keep every later day from being served."""
    chain.make("export", dt.date(2999, 1, 1), ("student", "profile"))
    assert "2999" in str(chain.pointer("LATEST"))
    ended = chain.project.call("status", "--max-age", 300)
    assert ended.code == 81 and "2999-01-01 is served, -" in ended.err, "no later day will ever be served"
    (problem,) = chain.status()["problems"]
    assert "day=2999-01-01, a day to come" in problem and "run dmtl rollback --unpin" in problem
    assert chain.called("rollback", "--unpin")["day"] == str(day(4))
    chain.run(5)
    assert chain.pointer("LATEST") == line(chain.export(5)) and chain.status()["problems"] == []


def test_a_lost_latest_is_not_led_to_a_day_to_come(tmp_path: Path) -> None:
    chain = Chain(tmp_path, 1)
    chain.make("export", dt.date(2999, 1, 1), ())
    (chain.project.ws / "export/LATEST").unlink()
    chain.run(2)
    assert chain.pointer("LATEST") == line(chain.export(2))


def test_a_pin_on_a_lost_run(chain: Chain) -> None:
    chain.called("rollback", "--to", day(2))
    shutil.rmtree(chain.export(2))
    chain.run(5)
    assert chain.project.call("status").code == 65
    assert any("PINNED" in p for p in chain.status()["problems"])
    assert chain.called("rollback", "--unpin")["day"] == str(day(5)), "a day whose CURRENT names nothing is passed over"


def test_the_pin_is_written_before_latest(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real = disk.point
    monkeypatch.setattr("dmtl_cli.runs.latest.point", lambda p, t, d: (order.append(p.name), real(p, t, d)))
    chain.called("rollback")
    assert order == ["PINNED", "LATEST"]
