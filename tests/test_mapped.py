"""What is read from mapped files is what was written part by part, and no file is left behind."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.features import Feature
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.mapped import ArrayFile, TableFile
from dmtl_cli.runs.disk import disk_error

DAY = dt.date(2026, 1, 1)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(0, 3), st.data())
def test_arrays_are_those_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], width: int, data: Any
) -> None:
    parts = [data.draw(hnp.arrays(np.int32, (n, width))) for n in rows]
    folder = tmp_path_factory.mktemp("arrays")
    file = ArrayFile[np.int32](folder)
    for part in parts:
        file.add(part[:, ::-1])
    found = file.done()
    assert np.array_equal(found, np.concatenate(parts)[:, ::-1]) and found.dtype == np.int32
    assert not list(folder.iterdir())


def test_tables_are_those_written(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "id": [3, None, 5, 7],
            "text": ["a", "", None, "a long text that is not inlined"],
            "lists": [[1, 2], None, [], [3]],
            "numbers": pl.Series([0.5, float("nan"), None, 2.0], dtype=pl.Float32),
        }
    )
    table = TableFile(tmp_path / "users.table")
    for part in (frame[:1], frame[1:1], frame[1:]):
        table.add(part)
    found = table.done()
    assert not list(tmp_path.iterdir())
    assert found.schema == frame.schema and found.equals(frame)
    assert found[np.array([3, 0, 3])].equals(frame[[3, 0, 3]])


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """By the device that always is full."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    table, array = TableFile(Path("/dev/full")), ArrayFile[np.float64](tmp_path)
    array._file.close()
    array._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
    for file in (table.add, lambda frame: array.add(frame["x"].to_numpy())):
        with pytest.raises(OSError, match="No space left") as raised:
            for _ in range(64):
                file(pl.DataFrame({"x": np.zeros(100_000)}))
        assert disk_error(raised.value, tmp_path) is not None, "exit code 74, not a bug"


@pytest.mark.parametrize("beside", [False, True], ids=["events alone", "side table"])
def test_a_day_in_files_is_that_in_memory(beside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a whole part of the table has no event, too: users 100 and above are in the side table alone."""
    rng = np.random.default_rng(2)
    (tmp_path / "events" / f"day={DAY}").mkdir(parents=True)
    (tmp_path / "users").mkdir()
    n, lists = 400, [[int(x)] * (x % 3) for x in rng.integers(0, 9, 400)]
    events = {"user_id": rng.integers(0, 90, n), "item_id": rng.integers(0, 30, n), "click": rng.random(n) < 0.4}
    events["read"] = rng.integers(0, 2, n)
    frame = pl.DataFrame(events | {"mood": [f"m{x}" for x in rng.integers(0, 5, n)], "hist": lists})
    frame.write_parquet(tmp_path / f"events/day={DAY}/a.parquet", row_group_size=50)
    pl.DataFrame({"user_id": np.arange(140), "age": rng.integers(0, 90, 140)}).write_parquet(
        tmp_path / "users/a.parquet"
    )
    features = [
        Feature(name="user_id", side="user", kind="categorical"),
        Feature(name="mood", side="user", kind="categorical"),
        Feature(name="hist", side="user", kind="sequence", max_length=2),
        Feature(name="item_id", side="item", kind="categorical"),
    ]
    features += [Feature(name="age", side="user", kind="numeric")] if beside else []
    data = Data(
        root=str(tmp_path),
        events=Events(path="events", click="click", conversion="read"),
        users=SideTable(path="users", key="user_id") if beside else None,
    )
    found = []
    for held in (sizes.HELD, 20):
        monkeypatch.setattr(sizes, "HELD", held)
        monkeypatch.setattr(sizes, "SLICE", min(held, 1 << 18))
        scratch = tmp_path / str(held)
        scratch.mkdir()
        day = Log(data, tuple(features)).read(DAY, scratch)
        encoder = Encoder(tuple(features)).grow([day])
        found.append((day, encoder, encoder.entities(day, "user")))
        assert not {file.suffix for file in scratch.iterdir()} - {".arrow", ".codes"}, "no file of a table has a name"
    (one, of_one, encoded_one), (two, of_two, encoded_two) = found
    assert encoded_one.folder is None and encoded_two.folder is not None
    assert not encoded_two.ids.flags.writeable, "it is mapped"
    assert one.users.equals(two.users) and (len(one.users) == 140 if beside else len(one.users) < 140)
    assert of_one.vocabularies["mood"].lookup(one.users["mood"]).tolist() == encoded_two.ids[:, 1].tolist()
    assert of_one.numbers == of_two.numbers
    for a, b in zip(
        (encoded_one.ids, *encoded_one.sequences, encoded_one.floats),
        (encoded_two.ids, *encoded_two.sequences, encoded_two.floats),
        strict=True,
    ):
        assert np.array_equal(a, b)
