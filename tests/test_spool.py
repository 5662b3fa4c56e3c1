"""Rows on disk by bucket: none is lost, moved to another bucket or put out of order."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmtl_cli.data.log.values.spool import Spool, SpoolWriter, bucket_of


def written(folder: Path, added: list[list[int]], buckets: int, rows: int) -> Spool:
    """Rows that are numbered as they come, each in the bucket given."""
    writer = SpoolWriter(folder / "rows.arrow", buckets, rows)
    start = 0
    for bucket in added:
        n = np.arange(start, start + len(bucket))
        frame = pl.DataFrame({"n": n, "text": [f"row number {k}" for k in n], "list": [[int(k)] * (k % 3) for k in n]})
        writer.add(
            frame.cast({"n": pl.Int64, "text": pl.String, "list": pl.List(pl.Int64)}), np.array(bucket, np.int64)
        )
        start += len(bucket)
    return writer.done()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=30), max_size=6), st.integers(1, 12), st.integers(1, 40))
def test_a_bucket_holds_its_rows_in_the_order_of_writing(added: list[list[int]], rows: int, pool: int) -> None:
    whole = np.array([b for bucket in added for b in bucket], np.int64)
    with TemporaryDirectory() as folder:
        spool = written(Path(folder), added, 5, rows)
        assert len(spool) == 5
        for k in range(5):
            frame, expected = spool.bucket(k), np.flatnonzero(whole == k).tolist()
            assert (frame["n"].to_list() if frame is not None else []) == expected
            if frame is not None:
                assert frame["text"].to_list() == [f"row number {n}" for n in expected]
                assert frame["list"].to_list() == [[n] * (n % 3) for n in expected]
                part = spool.bucket(k, ["list", "n"])
                assert part is not None and part.columns == ["n", "list"] and part.equals(frame.select("n", "list"))
        frames = list(spool.read(spool.whole, pool))
    assert sorted(n for f in frames for n in f["n"]) == list(range(len(whole)))
    assert all(pool <= len(f) < pool + rows for f in frames[:-1]), "as many record batches as it takes"


def test_one_bucket_is_cut_into_full_record_batches(tmp_path: Path) -> None:
    spool = written(tmp_path, [[0] * 25, [0] * 10], 1, 10)
    assert [len(f) for f in spool.read(spool.whole, 1)] == [10, 10, 5, 10]
    assert [f["n"][0] for f in spool.read(np.array([2, 0]), 1)] == [20, 0], "in the order asked for"


@pytest.mark.parametrize("buckets", [1, 2, 7, 190])
def test_a_draw_spreads_keys_evenly_and_is_the_same_again(buckets: int) -> None:
    keys = np.arange(200_000)
    drawn = bucket_of(keys, buckets)
    assert np.array_equal(drawn, bucket_of(keys.astype(np.int32), buckets))
    assert np.array_equal(drawn[::-7], bucket_of(keys[::-7], buckets)), "whatever is drawn beside it"
    counts, mean = np.bincount(drawn, minlength=buckets), len(keys) / buckets
    assert len(counts) == buckets and np.abs(counts - mean).max() <= 6 * mean**0.5
