"""From a log to batches: the same days, vocabularies and batches, to the byte, as before reading was made faster.

The digests were made by the code of November 2026, which joined every row with all ids. Whatever changes one of them
changes what a chain learns from a log: that is a decision, not an optimization.
"""

import datetime as dt
import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.features import Feature
from dmtl_cli.config.teacher import Teacher
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.vocabulary import Vocabulary
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.values import sizes
from dmtl_cli.nn.batches import Batch, Batcher, stacked
from dmtl_cli.teacher.rows import HoldOut, teacher_rows

FIRST, ROWS, USERS, ITEMS = dt.date(2026, 1, 1), 3_000, 150, 60

FEATURES = (
    Feature(name="user_id", side="user", kind="categorical"),
    Feature(name="dense", side="user", kind="categorical"),
    Feature(name="sparse", side="user", kind="categorical", min_count=30),
    Feature(name="text", side="user", kind="categorical", min_count=2),
    Feature(name="flag", side="user", kind="categorical"),
    Feature(name="was_int", side="user", kind="categorical"),
    Feature(name="hist", side="user", kind="sequence", embedding_name="item_id", max_length=4),
    Feature(name="words", side="user", kind="sequence", separator="|", max_length=3),
    Feature(name="hashed_words", column="words", side="user", kind="sequence", separator="|", hash_bucket_size=11),
    Feature(name="hour", side="user", kind="categorical", level="event"),
    Feature(name="age", side="user", kind="numeric"),
    Feature(name="log_age", column="age", side="user", kind="numeric", transform="log1p"),
    Feature(name="age_group", column="age", side="user", kind="numeric", boundaries=(10.0, 40.0)),
    Feature(name="item_id", side="item", kind="categorical"),
    Feature(name="hashed", column="item_id", side="item", kind="categorical", hash_bucket_size=17),
    Feature(name="hashed_text", column="brand", side="item", kind="categorical", hash_bucket_size=5),
    Feature(name="brand", side="item", kind="categorical"),
    Feature(name="vector", side="item", kind="vector", dim=3),
    Feature(name="pair", side="item", kind="sequence", max_length=2),
    Feature(name="place", side="context", kind="categorical"),
    Feature(name="device", side="context", kind="categorical"),
    Feature(name="seen", side="context", kind="sequence", embedding_name="item_id", max_length=3),
    Feature(name="price", side="context", kind="numeric", num_buckets=5),
    Feature(name="ratio", side="context", kind="numeric"),
)


def write_log(root: Path, text_ids: bool) -> None:
    """Two days in two files each, of several row groups, whose columns are of different types now and then."""
    rng = np.random.default_rng(5)
    user_ids, item_ids = rng.integers(-(2**60), 2**60, USERS), rng.permutation(5 * ITEMS)[:ITEMS] - 20
    for k in range(2):
        for part in range(2):
            n = ROWS // (1 + part)
            u = np.minimum(rng.geometric(0.02, n), USERS) - 1
            i = np.minimum(rng.geometric(0.06, n), ITEMS) - 1
            file = root / "events" / f"day={FIRST + dt.timedelta(k)}" / f"part-{part}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            frame = _events(rng, u, i, user_ids, item_ids, k, part)
            if text_ids:
                frame = frame.with_columns(pl.format("u{}", "user_id").alias("user_id"), _item_text())
                frame = frame.with_columns(pl.col("hist", "seen").list.eval(pl.format("i{}", pl.element())))
            table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            if text_ids and part:
                at = table.schema.get_field_index("user_id")
                table = table.set_column(at, "user_id", table["user_id"].combine_chunks().dictionary_encode())
            pq.write_table(table, file, row_group_size=700)
    (root / "items").mkdir()
    table = pl.DataFrame({"item_id": np.sort(item_ids)[: ITEMS - 9]})
    table = table.with_columns(
        pl.when(pl.col("item_id") % 7 != 0).then(pl.format("b{}", pl.col("item_id") % 9)).alias("brand"),
        pl.concat_list([pl.col("item_id") * 0.5, pl.col("item_id") * 2.0, pl.lit(1.0)]).alias("vector"),
        pl.concat_list([pl.col("item_id") % 3, pl.col("item_id") % 4]).cast(pl.Array(pl.Int64, 2)).alias("pair"),
    )
    (table.with_columns(_item_text()) if text_ids else table).write_parquet(root / "items" / "part-0.parquet")


def _item_text() -> pl.Expr:
    return pl.format("i{}", "item_id").alias("item_id")


def _events(rng: np.random.Generator, u: Any, i: Any, user_ids: Any, item_ids: Any, k: int, part: int) -> pl.DataFrame:
    n = len(u)

    def lists(longest: int) -> pl.Series:
        lengths = rng.integers(0, longest + 1, n)
        lengths[rng.random(n) < 0.3] = 0
        flat = rng.choice(np.append(item_ids, [999_999]), int(lengths.sum()))
        ends = np.cumsum(np.append(0, lengths))
        made = pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(ends), pa.array(flat)))
        assert isinstance(made, pl.Series)
        return made.set(pl.Series(rng.random(n) < 0.1), None)

    def holed(values: Any, share: float = 0.1) -> pl.Series:
        return pl.Series(values).set(pl.Series(rng.random(n) < share), None)

    frame = pl.DataFrame(
        {
            "user_id": user_ids[u],
            "item_id": item_ids[i],
            "request": rng.integers(0, 40, n),
            "time": rng.permutation(n) // 3,
            "click": (rng.random(n) < 0.4).astype(np.int8),
            "seconds": holed(rng.integers(0, 100, n).astype(np.float64)),
            "dense": holed((u % 13).astype(np.int32)),
            "sparse": holed(u.astype(np.int64) * 10**14 - 7),
            "text": holed(np.array([f"t{x % 9}" if x % 5 else "" for x in u])),
            "flag": holed(u % 2 == 0),
            "was_int": holed((u % 6).astype(np.float64)),
            "hist": lists(7),
            "words": holed(np.array(["|".join(f"w{(x * y) % 8}" for y in range(x % 5)) for x in u])),
            "hour": rng.integers(0, 24, n).astype(np.int16),
            "age": holed(np.where(u % 10, u % 70, np.inf).astype(np.float32)),
            "place": holed(rng.integers(-3, 6, n).astype(np.int16 if part else np.int64)),
            "device": holed(np.array(["phone", "tv", "car"])[rng.integers(0, 3, n)]).cast(pl.Categorical),
            "seen": lists(4),
            "price": holed(rng.integers(0, 500, n)),
            "ratio": holed(rng.integers(0, 64, n) / 4),
        }
    )
    return frame.drop("flag") if k and part else frame


def read(root: Path, scratch: Path, timed: bool) -> list[Day]:
    events = Events(click="click", duration="seconds", request="request", time="time" if timed else None)
    log = Log(Data(root=str(root), events=events, items=SideTable(path="items", key="item_id")), FEATURES, timed=timed)
    days = []
    for k in range(2):
        (scratch / str(k)).mkdir()
        days.append(log.read(FIRST + dt.timedelta(k), scratch / str(k)))
    return days


def arrays(batch: Batch[Any]) -> Iterator[torch.Tensor | None]:
    for side in (batch.user, batch.item, batch.context):
        yield side.ids
        yield from side.sequences
        yield side.floats
    yield from (batch.user_index, batch.item_index, *batch.labels, batch.item_row, batch.lists)


class Digest:
    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def add(self, array: Any) -> None:
        """An array; of floats four digits, as sums are rounded differently on other machines."""
        array = np.ascontiguousarray(array)
        if array.dtype.kind == "f":
            array = np.round(array, 4) + 0.0
        self._sha.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())

    def add_frame(self, frame: pl.DataFrame) -> None:
        for s in frame:
            self._sha.update(repr((s.name, str(s.dtype), s.to_list())).encode())

    @property
    def text(self) -> str:
        return self._sha.hexdigest()[:12]


def digest_of_days(days: list[Day]) -> str:
    digest = Digest()
    for day in days:
        digest.add_frame(day.users)
        digest.add_frame(day.items)
        for array in (day.clicked, day.repeated, day.user_events, day.item_events, day.item_clicks):
            digest.add(array)
        digest.add_frame(pl.DataFrame({k: [round(float(v), 6)] for k, v in sorted(day.facts.items())}))
        for block in day.blocks():
            for array in (block.position, block.user, block.item, block.click, block.duration, block.request):
                digest.add(array)
            assert block.features is not None
            digest.add_frame(block.features)
            digest.add_frame((block.time if block.time is not None else pl.Series("none", [0])).to_frame())
    return digest.text


def digest_of_vocabularies(encoder: Encoder) -> str:
    digest = Digest()
    for name, vocabulary in sorted(encoder.vocabularies.items()):
        digest.add_frame(pl.DataFrame({"name": [name]}))
        if isinstance(vocabulary, Vocabulary):
            digest.add_frame(vocabulary.frame)
    for name, numbers in sorted(encoder.numbers.items()):
        digest.add_frame(pl.DataFrame({"name": [name], **{k: [np.round(v, 6).tolist()] for k, v in numbers.items()}}))
    return digest.text


def digest_of_batches(encoder: Encoder, days: list[Day], user_rows: int, tower: bool, samples: str) -> str:
    config = Teacher.model_validate({"user_rows": user_rows, "samples": samples, "negatives": 2})
    rng = np.random.default_rng(3)
    tables = stacked(encoder, days, event_features=tower)
    made = Batcher(encoder, tables, torch.device("cpu"), unknown_share=0.05, context_dropout=0.2, rng=rng)
    rows = teacher_rows(days, 20.0, config, HoldOut(0.1, 1).kept, rng)
    digest = Digest()
    count = 0
    for batch in made.batches(rows, 256):
        count += len(batch)
        for tensor in arrays(batch):
            if tensor is not None:
                digest.add(tensor.numpy())
    assert count > ROWS
    return digest.text


EXPECTED: dict[str, str] = {
    "integers, timed, 300": "01c0248f677b 4829fbad00dc 0351bea993a8 ee82a3d9724b 3c0ec68c8d1d 2db6a3a3c056",
    "integers, timed, 65536": "8f038b275cdf 4829fbad00dc 9a5580694f52 868293cfb3db 3e6d6b1043af 001c33327862",
    "integers, untimed, 300": "feb14d184075 ef9575411eb7 cbe5a707b42d 0b9f1d8d0537 37c15fd6a166 f62fbef3577c",
    "integers, untimed, 65536": "3071f499dbbe ef9575411eb7 c9628e67adb1 df133a61236b 6476edc0b021 a310c03d0387",
    "text, timed, 300": "0964c25ab1c9 0ea0dc42ca30 86bf919938e5 5928fee2df9b cda63b508abd 9cea83bedbb5",
    "text, timed, 65536": "acc35aea4a36 0ea0dc42ca30 d7a14c760928 3ae209e533c3 6f2fec8bd1e3 a21c40683160",
    "text, untimed, 300": "70592dd46958 3e152c75b8ff 491e7f01c10f 89519556b6e8 5f0499d137bf b655c7af84ce",
    "text, untimed, 65536": "4caea3ebf507 3e152c75b8ff 023d68a12c77 ae0d9fc80022 8d000dd6e029 90154c3a317a",
}
"""digests of the days, the vocabularies and the batches of four ways to train"""


@pytest.mark.parametrize("text_ids", [False, True], ids=["integers", "text"])
@pytest.mark.parametrize("timed", [False, True], ids=["untimed", "timed"])
@pytest.mark.parametrize("block", [300, 65_536], ids=["many buckets", "one bucket"])
@pytest.mark.parametrize("held", [7, sizes.HELD], ids=["tables in files", "tables in memory"])
def test_days_vocabularies_and_batches_are_as_before(
    text_ids: bool, timed: bool, block: int, held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "HELD", held)
    monkeypatch.setattr(sizes, "SLICE", min(held, 1 << 18))
    monkeypatch.setattr(sizes, "BLOCK", block)
    monkeypatch.setattr(sizes, "POOL", 2)
    monkeypatch.setattr(sizes, "MERGE", block)
    write_log(tmp_path / "log", text_ids)
    days = read(tmp_path / "log", tmp_path, timed)
    encoder = Encoder(FEATURES).grow(days[:1]).grow(days[1:])
    in_files = stacked(encoder, days, event_features=True).users.folder is not None
    assert in_files == (days[0].users.n_chunks() > 1) == (held < USERS), "or both ways are one"
    found = [
        digest_of_days(days),
        digest_of_vocabularies(encoder),
        digest_of_batches(encoder, days, 1, False, "exposed"),
        digest_of_batches(encoder, days, 20, False, "exposed"),
        digest_of_batches(encoder, days, 1, True, "sampled"),
        digest_of_batches(encoder, days, 20, True, "mixed"),
    ]
    name = f"{'text' if text_ids else 'integers'}, {'timed' if timed else 'untimed'}, {block}"
    assert found == EXPECTED[name].split(), f'    "{name}": "{" ".join(found)}",'


MOST = 1_500
"""batches that are compared: of one row a day would have 9,000"""


@pytest.mark.parametrize("size", [1, 64, 4_096, 5_000])
def test_batches_that_are_encoded_together_are_those_encoded_alone(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropped ids and contexts drawn in the same order as the rows; of small batches few are encoded."""
    write_log(tmp_path / "log", text_ids=False)
    days = read(tmp_path / "log", tmp_path, timed=True)
    encoder, rows = Encoder(FEATURES).grow(days), 0
    tables, encoded, encode = stacked(encoder, days, event_features=False), list[str](), Encoder.encode

    def counted(self: Encoder, frame: pl.DataFrame, side: str, per_event: bool | None = None) -> Any:
        encoded.append(side)
        return encode(self, frame, side, per_event)

    monkeypatch.setattr(Encoder, "encode", counted)
    calls, digests = [], []
    for alone in (False, True):
        rng = np.random.default_rng(3)
        made = Batcher(encoder, tables, torch.device("cpu"), unknown_share=0.05, context_dropout=0.2, rng=rng)
        drawn = teacher_rows(days, 20.0, Teacher(), HoldOut(0.1, 1).kept, rng)
        digest, rows = Digest(), 0
        batches = map(made.batch, made.cut(drawn, size)) if alone else made.batches(drawn, size)
        for batch in islice(batches, MOST):
            rows += len(batch)
            for tensor in arrays(batch):
                if tensor is not None:
                    digest.add(tensor.numpy())
        digests.append(digest.text)
        calls.append(encoded.count("context"))
        encoded.clear()
    assert digests[0] == digests[1] and rows >= min(ROWS, size * MOST)
    assert calls[1] >= rows / size and calls[0] <= rows / 4_096 + 2 * len(days)
