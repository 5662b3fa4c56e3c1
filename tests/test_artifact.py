"""Publishing: old or new at every instant, a rerun heals, nothing else is left behind."""

import contextlib
import datetime as dt
import errno
import json
import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.runs.artifact import publish, up_to_date
from dmtl_cli.runs.latest import move_latest, pin
from dmtl_cli.runs.manifest import MANIFEST, Manifest, canonical, key_of, verify
from dmtl_cli.runs.workspace import Workspace

DAY = dt.date(2026, 1, 2)
FIELDS: dict[str, Any] = {
    "key": "k",
    "config": {"b": 1, "a": [2.5]},
    "seed": 1,
    "versions": {"dmtl": "1"},
    "threads": 2,
}
PRIMITIVES = ("fsync", "replace", "chmod", "mkdir")
OLD, NEW = "old", "new"
# Later Pythons warn of a fork beside threads; no child here does more than touch files.
pytestmark = pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "ws")


def make(ws: Workspace, text: str = NEW, day: dt.date = DAY, stage: str = "export", **fields: Any) -> Path:
    with publish(ws, stage, day, latest=stage == "export") as pub:
        (pub.tmp / "spool").write_text("never published")
        (pub.path / "inner").mkdir()
        (pub.path / "weights").write_text(text)
        (pub.path / "inner" / "part").write_text(text * 2)
        run, manifest = pub.seal({**FIELDS, "key": text, **fields})
    assert verify(run) == manifest
    return run


def content(run: Path | None) -> str | None:
    return None if run is None else (run / "weights").read_text()


def litter(ws: Workspace) -> list[Path]:
    return list(ws.scratch().iterdir()) if ws.scratch().exists() else []


def test_a_signal_while_an_error_is_cleared_up_after_leaves_nothing(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where torchrun terminates a rank that has just lost another."""
    whole, calls = shutil.rmtree, []

    def cut_short(folder: Path, ignore_errors: bool = False) -> None:
        calls.append(folder)
        if len(calls) == 1:
            raise KeyboardInterrupt
        whole(folder, ignore_errors=ignore_errors)

    with pytest.raises(KeyboardInterrupt), publish(ws, "export", DAY):
        monkeypatch.setattr(shutil, "rmtree", cut_short)
        raise ValueError("lost")
    assert len(calls) == 2 and litter(ws) == []


def tree(ws: Workspace) -> set[str]:
    skipped = ("scratch", "locks", "rejected")
    found = (path.relative_to(ws.root) for path in ws.root.rglob("*") if path.is_file())
    return {str(path) for path in found if path.parts[0] not in skipped}


def in_child(body: Callable[[], None]) -> int:
    """Run `body` in a forked process; its wait status. The child ends without any cleanup."""
    child = os.fork()
    if child == 0:
        try:
            body()
        except BaseException:
            os._exit(3)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def at_step(step: int, act: Callable[[], None]) -> Iterator[None]:
    """Let `act` happen in place of the step-th call that changes the disk."""
    count = 0

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                act()
            return real(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in PRIMITIVES:
            patch.setattr(os, name, wrap(getattr(os, name)))
        yield


breaking = contextlib.contextmanager(at_step)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def expect(code: Exit, match: str | None = None) -> Any:
    @contextlib.contextmanager
    def check() -> Iterator[None]:
        with pytest.raises(UserError, match=match) as caught:
            yield
        assert caught.value.code == code

    return check()


def test_published_run_is_whole_and_found(ws: Workspace) -> None:
    assert ws.current("export", DAY) is None and ws.latest() is None and ws.days("export") == []
    run = make(ws, rows={"pairs": 3}, metrics={"m": 0.5})
    assert run == ws.current("export", DAY) == ws.latest()
    text = (run / MANIFEST).read_text()
    manifest = Manifest.read(run / MANIFEST)
    assert canonical(vars(manifest)) + "\n" == text and manifest.day == DAY and manifest.metrics == {"m": 0.5}
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert [file["path"] for file in manifest.files] == ["inner/part", "weights"]
    assert manifest.as_parent() == {"stage": "export", "day": "2026-01-02", "run_id": run.name[4:]}
    assert litter(ws) == []
    assert tree(ws) == {
        f"export/day={DAY}/{name}"
        for name in ("CURRENT", *(f"{run.name}/{n}" for n in ("weights", "inner/part", MANIFEST)))
    } | {"export/LATEST"}
    assert ws.latest_path.read_text() == f"day={DAY}/{run.name}\n"


def test_same_content_same_id_and_bytes_in_another_root(ws: Workspace, tmp_path: Path) -> None:
    one, two = make(ws), make(Workspace(tmp_path / "elsewhere" / "deep"))
    assert one.name == two.name and (one / MANIFEST).read_bytes() == (two / MANIFEST).read_bytes()
    names = {one.name, make(ws, "other").name, make(ws, seed=2).name, make(ws, day=DAY + dt.timedelta(1)).name}
    assert len(names) == 4


def test_every_step_is_durable_before_the_next(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    make(ws, OLD)
    events: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def traced_fsync(handle: int) -> None:
        fsync(handle)
        events.append(("fsync", str(Path(f"/proc/self/fd/{handle}").readlink()).removeprefix(f"{ws.root}/")))

    def traced_replace(source: Any, target: Any) -> None:
        replace(source, target)
        events.append(("rename", str(target).removeprefix(f"{ws.root}/")))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", traced_fsync)
        patch.setattr(os, "replace", traced_replace)
        run = make(ws, NEW)
    home, day = f"scratch/export-{DAY}", f"export/day={DAY}"
    order = [
        *(("fsync", f"{home}/run/{name}") for name in ("inner/part", "weights", "inner", MANIFEST)),
        ("fsync", f"{home}/run"),
        ("rename", f"{day}/{run.name}"),
        ("fsync", day),
        ("fsync", "scratch/LATEST"),
        ("rename", "export/LATEST"),
        ("fsync", "export"),
        ("fsync", f"{home}/CURRENT"),
        ("rename", f"{day}/CURRENT"),
        ("fsync", day),
    ]
    rest = iter(events)
    assert all(step in rest for step in order), events
    assert events[-1] == order[-1]


@pytest.mark.parametrize("damaged", [False, True], ids=["fresh", "over_damaged"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
@pytest.mark.parametrize("how", [kill, full_disk])
def test_crash_at_every_step(tmp_path: Path, how: Callable[[], None], first: bool, damaged: bool) -> None:
    good = make(Workspace(tmp_path / "good"), NEW)
    before = {None} if first else {OLD}
    finished = 0
    for step in range(1, 200):
        ws = Workspace(tmp_path / str(step))
        if damaged:
            (make(ws, NEW) / "weights").write_text("bad")
            (ws.stage_dir("export", DAY) / "CURRENT").unlink()
            ws.latest_path.unlink()
        if not first:
            make(ws, OLD)

        def crash(ws: Workspace = ws, step: int = step) -> None:
            with breaking(step, how):
                make(ws, NEW)

        if how is kill:
            status = in_child(crash)
            assert status in (0, signal.SIGKILL)
            done = status == 0
        else:
            try:
                crash()
                done = True
            except UserError as error:
                assert error.code == Exit.IO and "No space left on device; free some space (dmtl gc " in error.line()
                done = False
            assert litter(ws) == []
        for run in (ws.current("export", DAY), ws.latest()):
            assert content(run) in {*before, NEW}
            if run:
                verify(run)
        if content(ws.current("export", DAY)) == NEW:
            # CURRENT comes last, so `up to date` never hides a LATEST that was left behind.
            assert content(ws.latest()) == NEW
        assert make(ws, NEW).name == good.name
        assert content(ws.current("export", DAY)) == content(ws.latest()) == NEW
        assert litter(ws) == []
        extra = tree(ws) - tree(Workspace(tmp_path / "good"))
        assert all("/run-" in name for name in extra) and (first <= (not extra)), extra
        shutil.rmtree(ws.root)
        finished += done
        if done:
            break
    assert finished == 1 and step > 15


def test_exception_or_no_seal_publishes_nothing(ws: Workspace) -> None:
    old = make(ws, OLD)
    with pytest.raises(KeyError), publish(ws, "export", DAY) as pub:
        (pub.path / "weights").write_text(NEW)
        raise KeyError
    with publish(ws, "export", DAY) as pub:
        (pub.path / "weights").write_text(NEW)
    assert ws.current("export", DAY) == old and litter(ws) == []
    assert len(list(old.parent.iterdir())) == 2


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "full"),
        OSError(errno.EDQUOT, "quota"),
        OSError(errno.EIO, "bad"),
        RuntimeError("Error while serializing: No space left on device (os error 28)"),
    ],
)
def test_full_disk_in_the_body_is_io(ws: Workspace, error: Exception) -> None:
    with expect(Exit.IO), publish(ws, "teacher", DAY):
        raise error
    assert litter(ws) == []
    with pytest.raises(FileNotFoundError), publish(ws, "teacher", DAY):
        raise FileNotFoundError(errno.ENOENT, "not a disk problem")


def test_a_run_that_another_writer_places_meanwhile_is_taken(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    there, before = make(ws, stage="evaluation"), tree(ws)
    with monkeypatch.context() as patch:  # as if it had appeared between the look and the rename
        patch.setattr(os.path, "lexists", lambda path: False if Path(path) == there else Path(path).exists())
        assert make(ws, stage="evaluation") == there
        (there / "weights").write_text("bad")
        with expect(Exit.DATA, "weights"):
            make(ws, stage="evaluation")
    assert tree(ws) == before and litter(ws) == []


@pytest.mark.parametrize("mask", [0o027, 0o022, 0o002, 0o077])
def test_permissions_follow_umask(ws: Workspace, mask: int) -> None:
    before = os.umask(mask)
    try:
        with publish(ws, "export", DAY, latest=True) as pub:
            (pub.path / "inner").mkdir(mode=0o700)
            for name in ("weights", "inner/part"):
                (pub.path / name).touch(mode=0o600)
            (pub.path / "inner" / "part").chmod(0o755)
            pub.seal(FIELDS)
    finally:
        os.umask(before)
    for path in (ws.root, *ws.root.rglob("*")):
        wanted = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == wanted & ~mask, path


def flip(run: Path) -> None:
    (run / "weights").write_text("nEw")


def cut(run: Path) -> None:
    (run / "inner" / "part").write_text("")


def drop(run: Path) -> None:
    (run / "weights").unlink()


def link(run: Path) -> None:
    (run / "weights").rename(run.parent.parent / "moved")
    (run / "weights").symlink_to(run.parent.parent / "moved")


def add(run: Path) -> None:
    (run / "inner" / "part-2").write_text("alien")


def edit(run: Path) -> None:
    path = run / MANIFEST
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 7'))


def tear(run: Path) -> None:
    path = run / MANIFEST
    path.write_bytes(path.read_bytes()[:100])


def no_manifest(run: Path) -> None:
    (run / MANIFEST).unlink()


def lose(run: Path) -> None:
    shutil.rmtree(run)


def garbage(run: Path) -> None:
    (run.parent / "CURRENT").write_bytes(b"run-\xff\n")


@pytest.mark.parametrize("damage", [flip, cut, drop, link, add, edit, tear, no_manifest, lose, garbage])
def test_damage_is_named_and_healed(ws: Workspace, damage: Callable[[Path], None]) -> None:
    run = make(ws)
    found = up_to_date(ws, "export", DAY, None, NEW)
    assert found is not None and found[0] == run and found[1].key == NEW
    assert up_to_date(ws, "export", DAY, None, "other") is None
    damage(run)
    if damage is not garbage:
        names: dict[Callable[[Path], None], str] = {
            cut: "inner/part",
            add: "part-2",
            edit: MANIFEST,
            tear: MANIFEST,
            no_manifest: MANIFEST,
            lose: MANIFEST,
        }
        with expect(Exit.DATA, names.get(damage, "weights")):
            verify(run)
    assert up_to_date(ws, "export", DAY, None, NEW) is None
    assert make(ws) == run and up_to_date(ws, "export", DAY, None, NEW) is not None
    assert litter(ws) == [] and ws.latest() == run
    if damage not in (lose, garbage):
        assert [path.name for path in ws.rejected().iterdir()] == [f"export-{DAY}-{run.name}-1"]


def test_quick_verify_looks_at_sizes_only(ws: Workspace) -> None:
    run = make(ws)
    flip(run)
    verify(run, quick=True)
    cut(run)
    with expect(Exit.DATA, "inner/part: expected 6 bytes, found 0"):
        verify(run, quick=True)


def test_a_renamed_run_and_a_run_under_another_day_are_refused(ws: Workspace) -> None:
    run = make(ws, stage="teacher")
    other = ws.stage_dir("teacher", DAY + dt.timedelta(1))
    shutil.copytree(run.parent, other)
    assert up_to_date(ws, "teacher", DAY + dt.timedelta(1), None, NEW) is None
    with expect(Exit.DATA, "renamed"):
        verify(run.rename(run.with_name("run-" + "0" * 12)))


def test_an_intact_run_is_never_touched(ws: Workspace) -> None:
    run = make(ws, OLD)
    before = [(p, p.stat().st_ino, p.stat().st_mtime_ns) for p in (run, *sorted(run.rglob("*")))]
    make(ws, NEW)
    assert make(ws, OLD) == run == ws.current("export", DAY)
    assert before == [(p, p.stat().st_ino, p.stat().st_mtime_ns) for p in (run, *sorted(run.rglob("*")))]


@pytest.mark.parametrize(
    "text", ["", "run-12", "../../etc\n", f"run-{'a' * 12}\n", f"run-{'a' * 12}\nrun-{'b' * 12}\n"]
)
def test_bad_pointers_are_data_errors(ws: Workspace, text: str) -> None:
    run = make(ws)
    (run.parent / "CURRENT").write_text(text)
    ws.latest_path.write_text(f"day={DAY}/{text}")
    with expect(Exit.DATA, "CURRENT"):
        ws.current("export", DAY)
    with expect(Exit.DATA, "LATEST"):
        ws.latest()


def test_latest_never_moves_to_an_older_day(ws: Workspace) -> None:
    day = [DAY + dt.timedelta(n) for n in range(3)]
    first = make(ws, day=day[1])
    old = make(ws, day=day[0])
    assert ws.latest() == first and ws.current("export", day[0]) == old
    again = make(ws, "better", day=day[1])
    assert ws.latest() == again
    with publish(ws, "export", day[2]) as pub:
        unseen, _ = pub.seal(FIELDS)
    assert ws.latest() == again and ws.current("export", day[2]) == unseen
    assert not move_latest(ws, old) and ws.latest() == again
    ws.latest_path.write_text("garbage")
    assert not move_latest(ws, old) and ws.latest() == unseen, "a broken LATEST is healed to the newest day"
    shutil.rmtree(unseen)
    assert not move_latest(ws, old) and ws.latest() == again, "so is one that names a lost run"
    pin(ws, old)
    assert not move_latest(ws, again) and ws.latest() == old, "a pin holds it at an older day"
    ws.latest_path.write_text(f"day={day[1]}/{again.name}\n")
    assert not move_latest(ws, again) and ws.latest() == old, "also where a crash came between pin and LATEST"
    assert litter(ws) == []
    with pytest.raises(ValueError), publish(ws, "student", DAY, latest=True):
        pass


def test_two_artifacts_in_one_command(ws: Workspace) -> None:
    with publish(ws, "student", DAY) as student, publish(ws, "export", DAY, latest=True) as export:
        (student.path / "w").write_text("s")
        (export.path / "w").write_text("e")
        run, manifest = student.seal(FIELDS)
        _, child = export.seal({**FIELDS, "parents": [manifest.as_parent()]})
        with pytest.raises(ValueError, match="sealed already"):
            student.seal(FIELDS)
    assert child.parents == [{"stage": "student", "day": str(DAY), "run_id": run.name[4:]}]
    assert litter(ws) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_undefined_numbers_are_refused(ws: Workspace, value: float) -> None:
    for fields in ({"metrics": {"student.ctr.auc": value}}, {"gates": [{"value": value}]}, {"facts": {"a": [value]}}):
        with pytest.raises(ValueError, match="student.ctr.auc" if "metrics" in fields else None):
            make(ws, **fields)
    with pytest.raises(ValueError):
        key_of(x=value)
    assert tree(ws) == set() and litter(ws) == []
    path = ws.root / "m.json"
    path.write_text('{"format": 2, "a": NaN}')
    with expect(Exit.DATA, "m.json"):
        Manifest.read(path)


@pytest.mark.parametrize(
    "text", ["[]", '{"format": 2}', "{", "", "\xff", "[" * 100_000, '{"format": 2, "seed": 1e999}']
)
def test_malformed_manifests_are_data_errors(tmp_path: Path, text: str) -> None:
    path = tmp_path / MANIFEST
    path.write_text(text, encoding="latin-1")
    with expect(Exit.DATA, MANIFEST):
        Manifest.read(path)


def test_a_manifest_of_another_format_says_so(ws: Workspace) -> None:
    path = make(ws) / MANIFEST
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    with expect(Exit.DATA, "format 1, this dmtl reads 2"):
        Manifest.read(path)


def test_fields_and_payload_of_a_seal_are_checked(ws: Workspace) -> None:
    for fields in ({**FIELDS, "when": "now"}, {**FIELDS, "run_id": "0"}, {"key": "k"}):
        with pytest.raises(ValueError, match="fields of a manifest"), publish(ws, "teacher", DAY) as pub:
            pub.seal(fields)
    for name in (MANIFEST, "link"):
        with pytest.raises(ValueError, match=name), publish(ws, "teacher", DAY) as pub:
            (pub.path / name).symlink_to("/etc/hostname") if name == "link" else (pub.path / name).write_text("{}")
            pub.seal(FIELDS)
    assert ws.current("teacher", DAY) is None and litter(ws) == []


def test_integer_keys_do_not_change_the_id_when_read_back(ws: Workspace) -> None:
    verify(make(ws, facts={"by_k": {2: "a", 10: "b"}, "day": DAY, "pair": (1, 2)}))


def test_key_of() -> None:
    assert key_of(a=1, b={"x": 1, "y": 2}) == key_of(b={"y": 2, "x": 1}, a=1) != key_of(a=1, b={"x": 1, "y": 3})
    assert len(key_of()) == 64 and key_of(day=DAY) == key_of(day="2026-01-02")
    with pytest.raises(TypeError):
        key_of(path=Path("/tmp"))


def test_what_cannot_be_created_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with expect(Exit.CANNOT_CREATE, str(tmp_path / "file")), publish(Workspace(tmp_path / "file"), "teacher", DAY):
        pass
    with expect(Exit.CANNOT_CREATE, str(tmp_path / "file")), publish(Workspace(tmp_path / "file/x"), "teacher", DAY):
        pass
    blocked = Workspace(tmp_path / "ws")
    blocked.root.mkdir()
    (blocked.root / "teacher").write_text("")
    with expect(Exit.CANNOT_CREATE, "ws/teacher"), publish(blocked, "teacher", DAY):
        pytest.fail("found out only after the work")
    assert litter(blocked) == []

    def denied(path: object, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "mkdir", denied)
    with expect(Exit.CANNOT_CREATE, "new: Permission denied"), publish(Workspace(tmp_path / "new"), "teacher", DAY):
        pass


def test_days_newest_and_subs(ws: Workspace) -> None:
    day = [DAY + dt.timedelta(n) for n in range(3)]
    for each, teacher in ((day[2], day[1]), (day[0], day[0]), (day[2], day[2])):
        with publish(ws, "scores", each, f"teacher={teacher}") as pub:
            (pub.path / "CURRENT").write_text("a payload may be called anything")
            pub.seal(FIELDS)
    for folder in ("day=2026-01-09", "day=20260105", "day=x", "day=2026-01-08/run-0123456789ab"):
        (ws.root / "scores" / folder).mkdir(parents=True)
    (ws.root / "scores/day=2026-01-08/run-0123456789ab/CURRENT").touch()
    (ws.root / "scores/day=20260105/CURRENT").touch()
    assert ws.days("scores") == [day[0], day[2]]
    assert ws.subs("scores", day[2]) == [f"teacher={day[1]}", f"teacher={day[2]}"]
    assert ws.newest("scores", day[2]) == day[0] and ws.newest("scores", day[0]) is None
    assert ws.newest("teacher", DAY) is None
    assert ws.scratch_of("scores", DAY, "teacher=2026-01-01").name == f"scores-{DAY}-teacher=2026-01-01"


def test_a_setting_shares_stages_and_writes_its_own(ws: Workspace) -> None:
    teacher, export = make(ws, stage="teacher"), make(ws)
    whole = tree(ws)
    cell = Workspace(ws.root / "compare" / "soft", ws, frozenset({"teacher", "scores"}))
    inner = Workspace(cell.root / "compare" / "x", cell, frozenset({"teacher", "student"}))
    assert cell.current("teacher", DAY) == inner.current("teacher", DAY) == teacher
    assert cell.days("teacher") == [DAY] and cell.newest("teacher", DAY + dt.timedelta(1)) == DAY
    assert cell.days("export") == [] and cell.latest() is None
    student, served = make(cell, OLD, stage="student"), make(cell, OLD)
    assert student.parent == ws.root / "compare/soft/student" / f"day={DAY}" == inner.stage_dir("student", DAY)
    assert cell.latest() == served and ws.latest() == ws.current("export", DAY) == export
    assert ws.days("student") == [] and ws.days("compare") == []
    assert {f for f in tree(ws) if not f.startswith("compare/")} == whole
    assert cell.chain_lock == cell.root / "locks/chain.lock" and litter(cell) == []


def test_relative_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for root in (".", "a/b", "../" + tmp_path.name + "/c"):
        make(Workspace(Path(root)))
        assert up_to_date(Workspace(Path(root)), "export", DAY, None, NEW)
