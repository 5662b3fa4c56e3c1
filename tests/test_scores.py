"""The score table: what every row of it promises, and what a student takes from it."""

import datetime as dt
import hashlib
import itertools
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_log import put, read

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.student import Distill, Student, Way
from dmtl_cli.config.tasks import Tasks
from dmtl_cli.data.log.checked.day import ID, NO_REQUEST, Day
from dmtl_cli.data.log.values import sizes as log_sizes
from dmtl_cli.data.rows import Rows
from dmtl_cli.scores import writer as writer_module
from dmtl_cli.scores.calibration import Calibration
from dmtl_cli.scores.columns import SOURCES, column_names, score_columns
from dmtl_cli.scores.groups import list_keys, user_groups
from dmtl_cli.scores.reader import Reader
from dmtl_cli.scores.writer import Writer
from dmtl_cli.student.labels import StudentRows
from dmtl_cli.student.loss import freshness
from dmtl_cli.student.published import age, effective_ways
from dmtl_cli.student.rows import Stream, student_streams

CALIBRATION = {"ctr": Calibration(0.9, -1.0), "cvr": Calibration(1.2, 0.3)}
IDENTITY = {"ctr": Calibration(), "cvr": Calibration()}
MORE = CALIBRATION | {"like": Calibration(0.5, -2.0)}
FUSION = {"pctr": 1.0, "pcvr": 0.5, "plike": 2.0}
SCORES = ("ctr_logit", "cvr_logit", "pctr", "pcvr", "pctcvr")
COLUMNS = ("user_id", "item_id", "day", "pair_source", "group", "rank", *SCORES)
Floats32 = npt.NDArray[np.float32]


def facts(calibration: dict[str, Calibration], fusion: dict[str, float] | None = None) -> dict[str, Any]:
    return {"calibration": {k: v.to_dict() for k, v in calibration.items()}, "fusion": fusion or {}}


FACTS = facts(CALIBRATION)


def distill(*losses: dict[str, Any], together: int = 1, **more: Any) -> Student:
    """A student of these losses; rows of a user stand together so many at a time, without losses over lists."""
    config = Distill.model_validate({"losses": losses, **more})
    return Student(distill=config) if config.over_lists else Student(distill=config, user_rows=together)


def taking(*targets: str, together: int = 1, **more: Any) -> Student:
    return distill(*({"target": t, **more} for t in targets), together=together)


def stream(way: Way, reader: Reader, day: Day, config: Student, users: int = 0, items: int = 0) -> Stream:
    """What a student takes from published scores by the rows of `day`, behind so many users and items of another."""
    calibration = {k: v.to_dict() for k, v in reader.calibration.items()}
    manifest = SimpleNamespace(facts={"calibration": calibration, "fusion": reader.fusion})
    before = SimpleNamespace(day=day.day - dt.timedelta(days=1), users=range(users), items=range(items))
    found: Any = {(way, day.day): (reader.folder, manifest)}
    days: Any = {before.day: before, day.day: day}
    (made,) = student_streams(found, days, day.day, None, config, reader.folder / "scratch")
    return made


def replayed(reader: Reader, day: Day, config: Student, users: int = 0, items: int = 0) -> StudentRows:
    return Rows.concat(list(stream("replay", reader, day, config, users, items).rows(np.random.default_rng(0))))


def coverage(reader: Reader, day: Day, config: Student) -> tuple[int, int]:
    """Pairs offered, and those that are learned."""
    made = stream("replay", reader, day, config)
    return made.offered, made.covered


def lists_of(rows: Rows[Any]) -> npt.NDArray[np.int64]:
    assert rows.lists is not None
    return rows.lists


class Asked(NamedTuple):
    """The request of each pair."""

    request: npt.NDArray[np.int64]


Shown = Rows[Asked]


@pytest.fixture
def day(tmp_path: Path) -> Day:
    users, items = np.meshgrid(np.arange(4) * 10, [f"i{k}" for k in range(6)], indexing="ij")
    put(tmp_path, {"user_id": users.ravel(), "item_id": items.ravel(), "click": [0, 1] * 12, "seconds": [9.0] * 24})
    return read(tmp_path)


def pairs(user: list[int], item: list[int], request: list[int] | None = None) -> Shown:
    return Rows(np.array(user), np.array(item), Asked(np.array(request if request else [NO_REQUEST] * len(user))))


def scored(logits: Any, calibration: dict[str, Calibration], fusion: dict[str, float] | None = None) -> dict[str, Any]:
    """Score columns of logits [n, T], task by task in the order of the calibration."""
    by_task = np.array(logits, np.float32).reshape(-1, len(calibration)).T
    return score_columns(dict(zip(calibration, by_task, strict=True)), calibration, fusion or {})


def write(
    folder: Path,
    day: Day,
    parts: list[tuple[Shown, str, Any]],
    calibration: dict[str, Calibration] = CALIBRATION,
    fusion: dict[str, float] | None = None,
) -> Reader:
    (folder / "scratch").mkdir(parents=True)
    writer = Writer(folder / "scratch", day, column_names(Tasks.named(calibration), fused=bool(fusion)))
    for rows, source, logits in parts:
        request = rows.labels.request if source == "exposed" else None
        writer.add(rows.user, rows.item, source, scored(logits, calibration, fusion), request)
    writer.finish(folder)
    return Reader(folder, facts(calibration, fusion))


def parts_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def table(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(p) for p in parts_of(folder)])


def random_parts(day: Day, n: int = 400, requests: bool = True) -> list[tuple[Shown, str, Floats32]]:
    rng = np.random.default_rng(0)
    out = []
    for k in range(6):
        user, item = rng.integers(0, 4, n // 6), rng.integers(0, 6, n // 6)
        request = rng.integers(0, 9, n // 6) if requests else np.full(n // 6, NO_REQUEST)
        rows = Rows(user, item, Asked(request))
        logits = (np.round(rng.normal(0, 1, (n // 6, 2))) + 0.0).astype(np.float32)  # rounded: some are equal
        out.append((rows, "exposed" if k % 2 else "negative", logits))
    return out


def blocks_of(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_sizes, "BLOCK", rows)


# -- the table ---------------------------------------------------------------------------------------------------------


def test_schema_and_values(tmp_path: Path, day: Day) -> None:
    rows = pairs([0, 0, 3], [1, 2, 5], [7, 7, 8])
    reader = write(tmp_path / "s", day, [(rows, "exposed", [[0, 1], [2, 3], [-1, 0.5]])])
    frame = table(tmp_path / "s")
    kinds = [pl.Int64, pl.String, pl.Date, pl.String, pl.Int64, pl.Int32, *[pl.Float32] * 5]
    assert frame.schema == pl.Schema(dict(zip(COLUMNS, kinds, strict=True)))
    assert frame.select(COLUMNS[:6]).rows() == [
        (0, "i2", dt.date(2026, 1, 31), "exposed", 7, 1),
        (0, "i1", dt.date(2026, 1, 31), "exposed", 7, 2),
        (30, "i5", dt.date(2026, 1, 31), "exposed", 8, 1),
    ]
    assert frame["ctr_logit"].to_list() == [2, 0, -1] and frame["cvr_logit"].to_list() == [3, 1, 0.5]
    assert frame["pctr"][0] == pytest.approx(1 / (1 + math.exp(-(0.9 * 2 - 1))), rel=1e-6)
    assert frame["pcvr"][0] == pytest.approx(1 / (1 + math.exp(-(1.2 * 3 + 0.3))), rel=1e-6)
    assert reader.rows == 3


def test_groups_and_sources(tmp_path: Path, day: Day) -> None:
    none = NO_REQUEST
    shown = pairs([0, 2, 2, 1], [0, 1, 2, 0], [5, none, none, -7])
    drawn = pairs([0, 0, 2], [3, 4, 5], [5, 5, none])
    write(tmp_path / "s", day, [(shown, "exposed", [[0, 0]] * 4), (drawn, "negative", [[1, 0], [2, 0], [0, 0]])])
    found = table(tmp_path / "s").select("group", "pair_source", "rank", "user_id", "item_id").rows()
    of = user_groups(day).tolist()
    assert len(set(of)) == len(day.users) and max(of) < 0, "one negative number a user"
    first = hashlib.blake2b(b"2026-01-31|10", digest_size=8).digest()
    assert of[1] == -1 - (int.from_bytes(first, "big") >> 1), "published: never another one"
    texts = user_groups(replace(day, users=pl.DataFrame({ID: ["", "naïve ☃", "10"]})))
    assert texts[2] == of[1] and texts[0] == -1 - (
        int.from_bytes(hashlib.blake2b(b"2026-01-31|", digest_size=8).digest(), "big") >> 1
    )
    later = user_groups(replace(day, day=day.day + dt.timedelta(days=1)))
    assert not set(of) & set(later.tolist()), "and another one a day later"
    assert sorted(found) == sorted(
        [
            (of[2], "exposed", 1, 20, "i1"),
            (of[2], "exposed", 2, 20, "i2"),
            (of[2], "negative", 1, 20, "i5"),
            (of[0], "negative", 1, 0, "i4"),
            (of[0], "negative", 2, 0, "i3"),
            (5, "exposed", 1, 0, "i0"),
            (-7, "exposed", 1, day.users[ID][1], "i0"),
        ]
    )
    assert found == sorted(found, key=lambda row: row[:3])


def test_sorted_and_ranked_with_ties_by_item(tmp_path: Path, day: Day) -> None:
    write(tmp_path / "s", day, random_parts(day))
    frame = table(tmp_path / "s")
    assert frame.select("group", "pair_source", "rank").equals(
        frame.select("group", "pair_source", "rank").sort(pl.all())
    )
    ties = 0
    for (_, _), group in frame.group_by("group", "pair_source"):
        group = group.sort("rank")
        assert group["rank"].to_list() == list(range(1, len(group) + 1))
        by = list(zip((-group["pctcvr"]).to_list(), group["item_id"].to_list(), strict=True))
        assert by == sorted(by), "the best first, ties by item"
        ties += len(group) - group["pctcvr"].n_unique()
    assert ties > 0


def test_the_order_of_arrival_does_not_matter(tmp_path: Path, day: Day) -> None:
    parts = random_parts(day)
    write(tmp_path / "a", day, parts)
    write(tmp_path / "b", day, parts[::-1])
    assert (tmp_path / "a/part-00000.parquet").read_bytes() == (tmp_path / "b/part-00000.parquet").read_bytes()


@pytest.mark.parametrize("requests", [True, False])
def test_parts_out_of_core_are_one_table(
    tmp_path: Path, day: Day, monkeypatch: pytest.MonkeyPatch, requests: bool
) -> None:
    one = write(tmp_path / "one", day, random_parts(day, requests=requests))
    monkeypatch.setattr(writer_module, "SORTED", 30)
    blocks_of(16, monkeypatch)
    many = write(tmp_path / "many", day, random_parts(day, requests=requests))
    assert len(parts_of(many.folder)) > 3 and len(parts_of(one.folder)) == 1 and many.rows == one.rows == 396
    assert table(tmp_path / "many").equals(table(tmp_path / "one"))
    mixed = pl.concat(many.frames(list(COLUMNS), np.random.default_rng(0)))
    plain = pl.concat(many.frames(list(COLUMNS)))
    assert plain.equals(table(tmp_path / "one")) and not mixed.equals(plain)
    assert mixed.sort(pl.all()).equals(plain.sort(pl.all()))
    groups = [set(pl.read_parquet(p)["group"]) for p in parts_of(many.folder)]
    assert sum(map(len, groups)) == len(set().union(*groups)), "no group is torn between parts"
    of_row_groups = row_groups(many)
    assert len(of_row_groups) > len(groups) or not requests, "4 groups, of their own size"
    assert sum(map(len, map(set, of_row_groups))) == len(set().union(*groups)), "nor between row groups"


def row_groups(reader: Reader) -> list[list[int]]:
    """Groups of the rows of each Parquet row group."""
    found = []
    for part in parts_of(reader.folder):
        with pq.ParquetFile(part) as file:
            found += [file.read_row_group(k, ["group"])["group"].to_pylist() for k in range(file.num_row_groups)]
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=80), st.integers(1, 20))
def test_cuts_are_ends_of_groups_and_about_a_block_apart(groups: list[int], block: int) -> None:
    group = np.sort(np.array(groups, np.int64))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(log_sizes, "BLOCK", block)
        cuts = writer_module._cuts(group)
    assert cuts[-1] == len(group) and all(a < b for a, b in itertools.pairwise(cuts))
    assert not len(group) or cuts[0] == 0
    assert all(group[k] != group[k - 1] for k in cuts[1:-1])
    largest = max(Counter(groups).values(), default=0)
    spans = [b - a for a, b in itertools.pairwise(cuts)]
    assert all(s < block + largest for s in spans)
    assert len(spans) <= -(-len(group) // block), "and no more of them than blocks"


def test_a_group_larger_than_a_block_is_one_row_group(
    tmp_path: Path, day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks_of(4, monkeypatch)
    rows = pairs([0] * 6 + [1] * 3, [*range(6), 0, 1, 2], [7] * 6 + [8] * 3)
    reader = write(tmp_path / "s", day, [(rows, "exposed", [[0, 0]] * 9)])
    assert row_groups(reader) == [[7] * 6, [8] * 3]
    learned = replayed(reader, day, taking("pctr", loss="listwise"))
    assert sorted(Counter(lists_of(learned).tolist()).values()) == [3, 6], "a request, whole"


def test_a_rank_is_within_group_and_source(tmp_path: Path, day: Day) -> None:
    rows = pairs([0, 0], [0, 1], [7, 7])
    better = [[1.0, 0.0], [2.0, 0.0]]
    mine = pairs([0, 0, 0], [2, 3, 4])
    parts = [(rows, "exposed", better), (mine, "candidate", [[3.0, 0.0], [5.0, 0.0], [4.0, 0.0]])]
    write(tmp_path / "s", day, [*parts, (pairs([0], [5]), "negative", [[-1.0, 0.0]])])
    found = table(tmp_path / "s").select("pair_source", "group", "rank", "item_id").rows()
    of = user_groups(day)[0]
    assert found == [("candidate", of, 1, "i3"), ("candidate", of, 2, "i4"), ("candidate", of, 3, "i2"),
                     ("negative", of, 1, "i5"), ("exposed", 7, 1, "i1"), ("exposed", 7, 2, "i0")]  # fmt: skip


def test_a_day_without_pairs(tmp_path: Path, day: Day) -> None:
    reader = write(tmp_path / "s", day, [])
    assert reader.rows == 0 and table(tmp_path / "s").columns == list(COLUMNS)
    for together in (1, 9):
        made = stream("replay", reader, day, taking("pctcvr", together=together))
        assert not sum(map(len, made.rows(np.random.default_rng(0))))
    assert coverage(reader, day, taking("pctcvr")) == (0, 0)
    assert stream("match", reader, day, taking("pctcvr")).covered == 0


def test_a_part_without_a_score_is_refused(tmp_path: Path, day: Day) -> None:
    write(tmp_path / "s", day, random_parts(day))
    (part,) = parts_of(tmp_path / "s")
    pq.write_table(pq.read_table(part).drop_columns(["pctr"]), part)
    with pytest.raises(UserError, match=r"part-00000\.parquet: expected score column pctr"):
        Reader(tmp_path / "s", FACTS)


@pytest.mark.parametrize(
    ("column", "kind", "expected"),
    [
        ("ctr_logit", pa.float64(), "float32, got double"),
        ("pctcvr", pa.string(), "float32, got string"),
        ("group", pa.string(), "int64, got string"),
        ("rank", pa.int64(), "int32, got int64"),
        ("day", pa.string(), "a date, got string"),
        ("pair_source", pa.binary(), "text, got binary"),
        ("user_id", pa.float64(), "int64 or text, got double"),
    ],
)
def test_a_part_whose_column_has_another_type_is_refused(
    tmp_path: Path, day: Day, column: str, kind: pa.DataType, expected: str
) -> None:
    """Of several parts the one that is wrong is told."""
    reader = write(tmp_path / "s", day, random_parts(day))
    (part,) = parts_of(tmp_path / "s")
    other = part.with_name("part-00001.parquet")
    whole = pq.read_table(part)
    pq.write_table(whole, other)
    assert Reader(tmp_path / "s", FACTS).rows == 2 * reader.rows
    at = whole.column_names.index(column)
    pq.write_table(whole.set_column(at, column, whole[column].cast(kind)), other)
    with pytest.raises(UserError) as e:
        Reader(tmp_path / "s", FACTS)
    assert e.value.code == Exit.DATA and e.value.hint == "run dump-logits again"
    assert e.value.message == f"{other}: column {column}: expected {expected}"


LOGITS = st.one_of(st.sampled_from([-80.0, 80.0, -1000.0, 1000.0, 0.0]), st.floats(-100, 100, width=32))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(LOGITS, LOGITS), min_size=1, max_size=20), st.booleans())
def test_probabilities_are_inside_and_multiply(logits: list[tuple[float, float]], calibrated: bool) -> None:
    given_ = np.array(logits, np.float32)
    out = scored(given_, CALIBRATION if calibrated else IDENTITY)
    assert tuple(out) == SCORES
    for name in ("pctr", "pcvr", "pctcvr"):
        assert out[name].dtype == np.float32 and ((out[name] > 0) & (out[name] < 1)).all(), name
    assert np.array_equal(out["pctcvr"], out["pctr"] * out["pcvr"])
    assert np.array_equal(out["ctr_logit"], given_[:, 0]) and np.array_equal(out["cvr_logit"], given_[:, 1])


def test_scores_of_further_tasks_by_hand(tmp_path: Path, day: Day) -> None:
    names = ("like_logit", "plike", "pctlike")
    assert column_names(Tasks.named(MORE), fused=False) == (*SCORES, *names)
    assert column_names(Tasks.named(["ctr", "cvr", "b", "a"]), fused=True)[5:] == (
        "a_logit", "pa", "pcta", "b_logit", "pb", "pctb", "pfused",
    )  # fmt: skip
    reader = write(tmp_path / "s", day, [(pairs([0], [1]), "exposed", [[2, 3, 4]])], MORE, FUSION)
    frame = table(tmp_path / "s")
    assert frame.columns == [*COLUMNS, *names, "pfused"] and reader.rows == 1
    assert frame.schema["pctlike"] == frame.schema["pfused"] == pl.Float32
    pctr, pcvr, plike = (1 / (1 + math.exp(-z)) for z in (0.9 * 2 - 1, 1.2 * 3 + 0.3, 0.5 * 4 - 2))
    row = frame.row(0, named=True)
    assert row["like_logit"] == 4 and row["plike"] == pytest.approx(plike) == pytest.approx(0.5)
    assert row["pctlike"] == pytest.approx(pctr * plike) and row["pctcvr"] == pytest.approx(pctr * pcvr)
    assert row["pfused"] == pytest.approx(pctr * pcvr**0.5 * plike**2, rel=1e-6)
    for name, p in (("plike", plike), ("pctlike", pctr * plike), ("pfused", pctr * pcvr**0.5 * plike**2)):
        assert reader.targets(frame, [name])[:, 0] == pytest.approx([math.log(p / (1 - p))], rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(LOGITS, LOGITS, LOGITS), min_size=1, max_size=20),
    st.dictionaries(st.sampled_from(["pctr", "pcvr", "plike"]), st.floats(0.01, 50), min_size=1),
)
def test_every_score_is_inside_whatever_the_exponents(
    logits: list[tuple[float, float, float]], fusion: dict[str, float]
) -> None:
    out = scored(logits, MORE, fusion)
    assert tuple(out) == column_names(Tasks.named(MORE), fused=True)
    for name in ("pctr", "pcvr", "pctcvr", "plike", "pctlike", "pfused"):
        assert out[name].dtype == np.float32 and ((out[name] > 0) & (out[name] < 1)).all(), name
    assert np.array_equal(out["pctlike"], out["pctr"] * out["plike"])


# -- what a student takes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["pctcvr", "pctr", "pcvr"])
def test_targets_are_the_logit_of_the_probability_in_float64(tmp_path: Path, day: Day, target: str) -> None:
    reader = write(tmp_path / "s", day, random_parts(day))
    frame = table(tmp_path / "s")
    p = {
        "pctr": 1 / (1 + np.exp(-(0.9 * frame["ctr_logit"].cast(pl.Float64).to_numpy() - 1.0))),
        "pcvr": 1 / (1 + np.exp(-(1.2 * frame["cvr_logit"].cast(pl.Float64).to_numpy() + 0.3))),
    }
    p["pctcvr"] = p["pctr"] * p["pcvr"]
    t = reader.targets(frame, [target])[:, 0]
    assert t == pytest.approx(np.log(p[target] / (1 - p[target])), rel=1e-9, abs=1e-12)
    assert np.exp(-np.logaddexp(0, -t)) == pytest.approx(frame[target].to_numpy(), rel=1e-6)


def test_targets_stay_finite_where_probabilities_saturate(tmp_path: Path, day: Day) -> None:
    logits = [[80, 80], [80, -80], [-80, -80], [0, 80]]
    reader = write(tmp_path / "s", day, [(pairs([0] * 4, [0, 1, 2, 3]), "exposed", logits)], IDENTITY)
    frame = table(tmp_path / "s").sort("item_id")
    expected = [80 - math.log(2), -80.0, -160.0, 0.0]
    assert reader.targets(frame, ["pctcvr"])[:, 0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("score", ["plike", "pctlike", "pfused"])
def test_a_score_that_is_not_stored_is_refused(tmp_path: Path, day: Day, score: str) -> None:
    calibration = CALIBRATION | {"push": Calibration()}
    reader = write(tmp_path / "s", day, [(pairs([0], [1]), "exposed", [[0, 0, 0]])], calibration)
    stored = "pctr, pcvr, ppush, pctcvr, pctpush"
    for take in (
        lambda: reader.targets(table(tmp_path / "s"), ["pctr", score]),
        lambda: replayed(reader, day, taking(score)),
        lambda: stream("match", reader, day, taking(score)),
    ):
        with pytest.raises(UserError) as e:
            take()
        assert e.value.code == Exit.DATA and e.value.hint == "run dump-logits again"
        assert e.value.message == f"{tmp_path / 's'}: expected score {score}, holds {stored}"


def test_a_fusion_of_tasks_the_dump_lacks_is_refused(tmp_path: Path, day: Day) -> None:
    write(tmp_path / "s", day, [(pairs([0], [1]), "exposed", [[0, 0]])], CALIBRATION, {"pctr": 1.0})
    with pytest.raises(UserError, match="s: pfused is made of plike, expected pctr, pcvr"):
        Reader(tmp_path / "s", facts(CALIBRATION, FUSION))
    with pytest.raises(UserError, match="expected score column like_logit"):
        Reader(tmp_path / "s", facts(MORE, FUSION))


def later_day(root: Path) -> Day:
    """Users 10 and 99, items i2, i3 and new: other rows than the scored day's."""
    put(root, {"user_id": [99, 10, 10, 10], "item_id": ["i2", "i3", "new", "i3"], "click": [1, 1, 0, 1],
               "seconds": [1.0] * 4, "w": [1.0, 2.0, 3.0, 4.0]})  # fmt: skip
    return read(root, weight="w")


def test_replayed_rows_take_the_rows_of_the_given_day(tmp_path: Path, day: Day) -> None:
    user, item = np.divmod(np.arange(24), 6)
    shown = Rows(user, item, Asked(np.full(24, NO_REQUEST)))
    logits = np.stack([np.arange(24) / 10, np.zeros(24)], 1).astype(np.float32)
    reader = write(
        tmp_path / "s", day, [(shown, "exposed", logits), (shown.take(slice(0, 12)), "negative", logits[:12])]
    )
    later = later_day(tmp_path / "later")
    rows = replayed(reader, later, taking("pctr"), 100, 1000)
    items = later.items[ID].to_list()
    found = Counter(
        (later.users[ID][u - 100], items[i - 1000], round(t, 6), w, SOURCES[s])
        for u, i, t, w, s in zip(
            *(x.tolist() for x in (rows.user, rows.item, rows.labels.targets[:, 0])),
            *(x.tolist() for x in (rows.labels.kd_weight, rows.labels.source)), strict=True,
        )
    )  # fmt: skip
    targets = {i: 0.9 * float(np.float32((6 + k) / 10)) - 1 for k, i in ((2, "i2"), (3, "i3"))}
    assert found == Counter((10, i, round(t, 6), 1.0, s) for i, t in targets.items() for s in ("exposed", "negative"))
    assert not rows.labels.hard_weight.any()
    counts = [coverage(reader, d, taking("pctr")) for d in (later, day)]
    assert counts == [(36, 4), (36, 36)], "coverage counts the pairs with rows on both sides"
    assert rows.lists is None


def sources(reader: Reader, day: Day, config: Student) -> Counter[str]:
    return Counter(SOURCES[s] for s in replayed(reader, day, config).labels.source)


def test_a_source_that_no_loss_weighs_is_left_out(tmp_path: Path, day: Day) -> None:
    user, item = np.divmod(np.arange(24), 6)
    whole = Rows(user, item, Asked(np.full(24, NO_REQUEST)))
    parts = [(whole.take(slice(0, n)), s, np.zeros((n, 2))) for s, n in (("exposed", 24), ("negative", 12),
                                                                      ("candidate", 5))]  # fmt: skip
    reader = write(tmp_path / "s", day, parts)
    assert sources(reader, day, taking("pctr")) == {"exposed": 24, "negative": 12, "candidate": 5}
    none = {"source_weights": {"negative": 0.0, "candidate": 0.0}}
    assert sources(reader, day, distill(none)) == {"exposed": 24}
    one = distill(none, {"loss": "listwise", "source_weights": {"exposed": 0.0, "negative": 0.1, "candidate": 0.0}})
    assert sources(reader, day, one) == {"exposed": 24, "negative": 12}, "any loss may ask for it"
    counts = [coverage(reader, day, config) for config in (distill(none), one)]
    assert counts == [(24, 24), (36, 36)], "as many as are learned"
    with pytest.raises(ValueError, match="exposed, negative and candidate are all 0"):
        distill({"source_weights": dict.fromkeys(SOURCES, 0.0)})


def test_lists_are_requests_and_users_cut_at_their_size(tmp_path: Path, day: Day) -> None:
    user, item = np.divmod(np.arange(24), 6)
    shown = Rows(user, item, Asked(np.where(user == 3, NO_REQUEST, user // 2)))  # 12 and 6 rows; user 3's 6
    logits = np.random.default_rng(0).normal(size=(24, 2))
    reader = write(tmp_path / "s", day, [(shown, "exposed", logits), (shown, "negative", logits)])
    config = distill({"loss": "listwise"}, {"target": "pctr"}, list_size=10)
    rows = replayed(reader, day, config)
    assert len(rows) == 48 and rows.labels.targets.shape == (48, 2) and np.isfinite(rows.labels.targets).all()
    of = np.where(rows.user == 3, -1, rows.user // 2)
    whose = {k: set(of[lists_of(rows) == k].tolist()) for k in lists_of(rows).tolist()}
    assert all(len(groups) == 1 for groups in whose.values()), "of one request or user"
    counts = Counter(lists_of(rows).tolist())
    sizes = {g: sorted(counts[k] for k in counts if whose[k] == {g}) for g in (-1, 0, 1)}
    assert sizes == {-1: [2, 10], 0: [6, 6, 6, 6], 1: [6, 6]}, "12 of user 3; a request is of one user, 6 of their own"
    assert all(len(set(rows.user[lists_of(rows) == k].tolist())) == 1 for k in counts)


def test_scores_lose_half_of_their_weight_in_a_half_life() -> None:
    known = ((0, 1.0, 1), (1, 2.0, 1), (3, 2.0, 0.5), (2, 2.0, 0.5**0.5), (4, 1.0, 0.125), (4, None, 1))
    for days, half_life, weight in known:
        config = taking("pctr") if half_life is None else distill({"target": "pctr"}, half_life_days=half_life)
        assert freshness(config.distill, days) == pytest.approx(weight), days


def test_a_list_is_of_one_user_and_one_group() -> None:
    rng = np.random.default_rng(0)
    group, user = rng.integers(-(2**63), 2**63 - 1, 300), rng.integers(0, 2**40, 300)
    keys = list_keys(np.repeat(group, 300), np.tile(user, 300))
    assert len(np.unique(keys)) == 300 * 300, "no two share a number"


def test_a_matcher_finds_exposed_pairs(tmp_path: Path, day: Day) -> None:
    logits = np.stack([np.arange(24) / 10, np.zeros(24)], 1).astype(np.float32)
    user, item = np.divmod(np.arange(24), 6)
    whole = Rows(user, item, Asked(np.full(24, NO_REQUEST)))
    only = item != 4
    parts = [(whole.take(np.flatnonzero(only)), "exposed", logits[only]), (whole, "negative", logits + 5)]
    matched = stream("match", write(tmp_path / "s", day, parts), day, taking("pctr", "pcvr"))
    assert (matched.offered, matched.covered) == (len(day), only.sum()), "a drawn pair is no match"
    found = Rows.concat(list(matched.rows(np.random.default_rng(0))))
    found = found.take(np.lexsort((found.item, found.user)))
    assert np.array_equal(found.user * 6 + found.item, np.flatnonzero(only))
    of_click, of_read = found.labels.targets.T
    assert of_click == pytest.approx(0.9 * logits[only, 0].astype(np.float64) - 1, rel=1e-12)
    assert of_read == pytest.approx([0.3] * 20)

    later = later_day(tmp_path / "later")
    other = stream("match", Reader(tmp_path / "s", FACTS), later, taking("pctr", "pctcvr"), 100, 1000)
    assert other.covered == 2, "user 10 sees i3 twice; user 99 and the new item were not scored"
    rows = Rows.concat(list(other.rows(np.random.default_rng(0))))
    assert set(rows.user.tolist()) == {100} and set(rows.item.tolist()) == {
        1000 + later.items[ID].to_list().index("i3")
    }
    a, c = 0.9 * float(np.float32(0.9)) - 1, 0.3
    both = -math.log(math.exp(-a) + math.exp(-c) + math.exp(-a - c))
    assert rows.labels.targets == pytest.approx(np.array([[a, both]] * 2))
    assert sorted(rows.labels.kd_weight.tolist()) == [2, 4], "the event's weight"
    assert not rows.labels.source.any() and rows.lists is None


@pytest.mark.parametrize("loss", ["kl", "listwise"])
def test_buckets_do_not_matter_to_a_match(tmp_path: Path, day: Day, monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    reader = write(tmp_path / "s", day, random_parts(day))
    rng = np.random.default_rng(4)
    put(tmp_path / "x", {"user_id": rng.integers(0, 6, 300) * 10, "item_id": [f"i{k}" for k in rng.integers(0, 8, 300)],
                         "click": [0] * 300, "seconds": [1.0] * 300, "request": rng.integers(0, 9, 300),
                         "w": np.arange(300) / 4})  # fmt: skip
    config, found, sizes = taking("pctr", loss=loss), [], []
    for block in (100, 4):
        monkeypatch.setattr(log_sizes, "BLOCK", block)
        later = read(tmp_path / "x", request="request", weight="w")
        matched = stream("match", reader, later, config, 5, 7)
        whole = list(matched.rows(np.random.default_rng(0)))
        rows = Rows.concat(whole)
        assert len(rows) == matched.covered > 100
        labels = (rows.labels.targets[:, 0], rows.labels.kd_weight, rows.labels.source)
        found.append(Counter(zip(*(c.tolist() for c in (rows.user, rows.item, *labels)), strict=True)))
        sizes.append(sorted(Counter(lists_of(rows).tolist()).values()) if loss == "listwise" else [])
    assert len(later.spool) == 10 and len(whole) > 2
    assert found[0] == found[1] and sizes[0] == sizes[1]


def test_pools_of_large_groups_are_bounded_in_rows(tmp_path: Path, day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks_of(2, monkeypatch)
    user, item = np.repeat(np.arange(4), 60) % 4, np.arange(240) % 6
    reader = write(
        tmp_path / "s", day, [(Rows(user, item, Asked(np.arange(240) // 20)), "exposed", np.zeros((240, 2)))]
    )
    assert [len(f) for f in reader.frames(["group"])] == [40] * 6, "two groups of 20 where 2 * 8 * 2 rows are a pool"
    blocks_of(1000, monkeypatch)
    assert [len(f) for f in reader.frames(["group"])] == [160, 80], "else of 8 row groups"


def test_matched_rows_stand_in_lists_of_a_request(tmp_path: Path, day: Day) -> None:
    user, item = np.divmod(np.arange(24), 6)
    whole = Rows(user, item, Asked(np.full(24, NO_REQUEST)))
    reader = write(tmp_path / "s", day, [(whole, "exposed", np.zeros((24, 2)))])
    put(tmp_path / "x", {"user_id": [10] * 4 + [20], "item_id": ["i0", "i1", "i2", "i0", "i5"], "click": [0] * 5,
                         "seconds": [1.0] * 5, "request": [3, 3, 4, 4, 4]})  # fmt: skip
    lists = taking("pctr", loss="listwise")
    for request, config, sizes in (
        ("request", lists, [1, 2, 2]),
        (None, lists, [1, 4]),
        ("request", taking("pctr", together=3), [1, 1, 3]),
        (None, taking("pctr", together=9), [1, 4]),
    ):
        later = read(tmp_path / "x", request=request)
        (rows,) = stream("match", reader, later, config).rows(np.random.default_rng(0))
        assert sorted(Counter(lists_of(rows).tolist()).values()) == sizes


def test_rows_of_a_user_stay_together_whatever_their_group(tmp_path: Path, day: Day) -> None:
    user, item = np.divmod(np.arange(24), 6)
    shown = Rows(user, item, Asked(np.arange(24)))
    reader = write(tmp_path / "s", day, [(shown, "exposed", np.zeros((24, 2))), (shown, "negative", np.ones((24, 2)))])
    rows = replayed(reader, day, taking("pctr", together=8))
    of = {k: rows.user[lists_of(rows) == k] for k in lists_of(rows).tolist()}
    assert all(len(set(users.tolist())) == 1 for users in of.values())
    assert sorted((int(users[0]), len(users)) for users in of.values()) == [(u, n) for u in range(4) for n in (4, 8)]
    assert replayed(reader, day, taking("pctr")).lists is None


def test_ids_of_another_type_match_nothing(tmp_path: Path, day: Day) -> None:
    reader = write(tmp_path / "s", day, random_parts(day))
    put(tmp_path / "x", {"user_id": [10], "item_id": [2], "click": [1], "seconds": [1.0]})
    other = read(tmp_path / "x")
    assert [stream(way, reader, other, taking("pctr")).covered for way in ("replay", "match")] == [0, 0]


def test_age() -> None:
    assert age(dt.date(2026, 1, 31), dt.date(2026, 2, 1)) == 1


@pytest.mark.parametrize(
    ("ways", "own"),
    [
        (("replay", "rescore"), "replay"),
        (("rescore", "replay", "match"), "replay"),
        (("match", "replay"), "replay"),
        (("match", "rescore"), "rescore"),
        (("rescore",), "rescore"),
        (("match",), "match"),
    ],
)
def test_the_one_dump_of_a_teacher_of_the_same_day_is_learned_by_one_way(ways: tuple[Way, ...], own: Way) -> None:
    day, config = dt.date(2026, 1, 31), Distill(ways=ways, min_age_days=0)
    assert effective_ways(config, day, day) == (own,)
    assert effective_ways(config, day, day - dt.timedelta(days=1)) == ways
    assert effective_ways(config, day, None) == ()
