"""forget: published runs again without some users, and what was made from these with its new parents.

What a user leaves by name goes: rows of profiles, score tables and exports, and the value of their row in a vocabulary.
The row itself stays, with what the model learned, as all weights do.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.features.stored import write_values
from dmtl_cli.data.log.files.converted import conversions, locked
from dmtl_cli.data.log.values.spool import frame_of
from dmtl_cli.runs.contents import there
from dmtl_cli.runs.disk import RERUN, disk_error, reading
from dmtl_cli.runs.locks import holding_all
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.runs.reachable import writers
from dmtl_cli.runs.rewriting import REPLACES, Change, Graph, Published, Rewrite, remove, renew, sweep
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.scores.columns import SOURCES
from dmtl_cli.scores.writer import part_writer, ranks

FORGOTTEN = "forgotten"
"""the fact that says how many rows of each file were removed; `exposed` among them, of scores"""
_VOCABULARIES = "vocabularies.parquet"
_INT64 = 2**63


def forget(ws: Workspace, file: Path, wait: float = 0) -> dict[str, Any]:
    """Removes the users that a file names from all that is published, from compare's workspaces too.

    Runs that held them and are not published any more go, and so does what is in scratch/, was rejected, or was
    converted from the log, which is the user's to clean, and every page of a report. Killed at any moment it leaves
    each stage old or new, and the next call finishes.

    Args:
        file: an id a line.
        wait: seconds to wait for another writer.

    Returns:
        `users` found and `unknown` ones, `runs` published again, `files` and `rows` removed from them, `removed_runs`
        and the `freed_bytes` of these.

    Raises:
        UserError: 66 nothing is published, there is no such file; 65 a line is no id, a run is damaged; 75 a run or a
            comparison is going on; 73, 74.
    """
    with holding_all(writers(ws), wait, "dmtl forget"):
        return _forget(ws, file)


def _forget(ws: Workspace, file: Path) -> dict[str, Any]:
    graph = Graph(ws)
    if not graph.everywhere:
        raise UserError(f"no published run in {ws.root}", "is it the workspace of this config?", Exit.NO_INPUT)
    users = _Users(_read_ids(file, _kind(graph)))
    again = list(renew(graph, users.change))
    doomed = _doomed(Graph(ws), users)
    freed = remove(doomed) + sum(map(sweep, writers(ws))) + _remove_conversions(ws)
    for each in writers(ws):  # a page may name users; dmtl report --index writes pages again
        shutil.rmtree(each.root / "report", ignore_errors=True)
    return {
        "users": len(users.found),
        "unknown": len(users.ids) - len(users.found),
        "runs": len(again),
        "files": users.files,
        "rows": users.rows,
        "removed_runs": len(doomed),
        "freed_bytes": freed,
    }


def _remove_conversions(ws: Workspace) -> int:
    """What was converted from the log has its rows; the next command converts what the log has then."""
    folder = conversions(str(ws.root))
    if not folder.is_dir():
        return 0
    with locked(folder):
        return remove({folder: ws})


def described(found: dict[str, Any]) -> str:
    """What `forget` did, in two lines."""
    unknown = f", {found['unknown']} of the file are unknown" if found["unknown"] else ""
    if not found["runs"]:
        did = "nothing had to be published again"
    else:
        did = f"{found['runs']} runs published again, {found['rows']} rows removed from {found['files']} files"
    freed = f"{found['removed_runs']} old runs removed, {found['freed_bytes']} bytes freed"
    return f"{found['users']} users forgotten{unknown}\n{did}; {freed}"


def _doomed(graph: Graph, users: _Users) -> dict[Path, Workspace]:
    """Runs that no pointer leads to and that held users, were replaced, or cannot be read."""
    manifests = {path: there(partial(Manifest.read, path / MANIFEST)) for path in graph.everywhere}
    replaced = {m.facts[REPLACES] for m in manifests.values() if m and REPLACES in m.facts}
    doomed = {}
    for path, ws in graph.unreached().items():
        manifest = manifests[path]
        if manifest and manifest.run_id not in replaced and REPLACES not in manifest.facts:
            held = there(partial(users.held, Published(ws, path, manifest)))
            if held is not None and not held:
                continue
        doomed[path] = ws
    return doomed


# -- the users ---------------------------------------------------------------------------------------------------------


def _kind(graph: Graph) -> str:
    """int64 or string, as a profile or a model says."""
    for _, places in sorted(graph.reached.items()):
        for name, key in (("profile.json", "ids"), ("features.json", "id_kinds")):
            path = places[0].path / name
            if path.is_file():
                with reading(path):
                    return str(json.loads(path.read_bytes())[key]["user"])
    return "string"


def _read_ids(file: Path, kind: str) -> pl.Series:
    """Distinct ids, sorted."""
    if not file.exists():
        raise UserError(f"--users {file}: there is no such file", "name a file with an id a line", Exit.NO_INPUT)
    if not file.is_file():
        raise UserError(f"--users {file} is not a regular file", "name a file with an id a line")
    with reading(file):
        raw = file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    ids: set[Any] = set()
    for number, line in enumerate(raw, 1):
        try:
            text = line.decode().removesuffix("\r")
        except UnicodeDecodeError:
            raise UserError(f"{file}:{number}: not UTF-8", "write an id a line") from None
        if not text.strip():
            continue
        if kind != "int64":
            ids.add(text)
        elif re.fullmatch(r"[+-]?\d{1,19}", text.strip(), re.ASCII) and -_INT64 <= int(text) < _INT64:
            ids.add(int(text))
        else:
            raise UserError(f"{file}:{number}: expected a user id, an integer (int64), got {text[:40]!r}")
    return pl.Series("id", sorted(ids), dtype=pl.Int64 if kind == "int64" else pl.String)


@dataclass
class _Users:
    """Ids to forget, and what was done about them."""

    ids: pl.Series
    found: set[str] = field(default_factory=set)
    """as text, those that were somewhere"""
    files: int = 0
    """written again"""
    rows: int = 0
    """removed from them"""

    def held(self, run: Published) -> dict[str, dict[str, int]]:
        """By file of a run the rows that users have in it, those of scores by source. Raises UserError 65, 74."""
        found = {}
        for listed in run.manifest.files:
            path = run.path / listed["path"]
            if path.name == _VOCABULARIES:
                counts = self._in_vocabularies(path, run.manifest)
            elif (column := _column(run.manifest.stage, path.name)) is not None:
                counts = self._in_table(path, column, run.manifest.stage == "scores")
            else:
                continue
            if counts:
                found[listed["path"]] = counts
        return found

    def change(self, run: Published) -> Change | None:
        """The run without them; None where it has none of them."""
        held = self.held(run)
        if not held:
            return None
        m = run.manifest
        files: dict[str, Rewrite] = {}
        for name in held:
            path = run.path / name
            if path.name == _VOCABULARIES:
                files[name] = partial(self._rewrite_vocabularies, _embeddings(path.parent, m))
            elif m.stage == "scores":
                files[name] = self._rewrite_part
            else:
                files[name] = partial(self._rewrite_table, str(_column(m.stage, path.name)))
        removed = {name: sum(counts.values()) for name, counts in held.items()}
        self.files += len(files)
        self.rows += sum(removed.values())
        rows, metrics = _numbers(m, held)
        before = m.facts.get(FORGOTTEN, {})
        if m.stage == "scores":
            removed["exposed"] = sum(counts.get("exposed", 0) for counts in held.values())
        total = {name: before.get(name, 0) + removed.get(name, 0) for name in {**before, **removed}}
        return Change(files, rows, metrics, m.facts | {FORGOTTEN: total})

    def _are(self, values: pl.Series) -> pl.Series:
        """Whether each is one of them."""
        return values.is_in(self.ids.implode()).fill_null(False)

    # -- tables --------------------------------------------------------------------------------------------------------

    def _in_table(self, path: Path, column: str, by_source: bool) -> dict[str, int]:
        counts: dict[str, int] = {}
        with _parquet(path) as file:
            for k in range(file.num_row_groups):
                columns = [column, *(["pair_source"] if by_source else [])]
                rows = frame_of(file.read_row_group(k, columns, use_threads=False))
                theirs = rows.filter(self._are(rows[column]))
                self.found |= set(theirs[column].unique().cast(pl.String))
                sources = theirs["pair_source"] if by_source else pl.Series(["rows"] * len(theirs), dtype=pl.String)
                for source, n in sources.value_counts(sort=False, name="n").iter_rows():
                    counts[source] = counts.get(source, 0) + n
        return counts

    def _rewrite_table(self, column: str, old: Path, new: Path) -> None:
        with _parquet(old) as file, pq.ParquetWriter(new, file.schema_arrow, compression="zstd") as writer:
            for rows in self._kept(file, column):
                writer.write_table(rows, row_group_size=len(rows))

    def _rewrite_part(self, old: Path, new: Path) -> None:
        """A row group of a score table has whole groups. One of several users (a log may count requests anew for each)
        loses rows in its middle, so ranks are counted again."""
        with _parquet(old) as file, part_writer(new, file.schema_arrow) as writer:
            place = file.schema_arrow.names.index("rank")
            for rows in self._kept(file, "user_id"):
                frame = frame_of(rows.select(["group", "pair_source"]))
                source = frame["pair_source"].cast(pl.Enum(sorted(SOURCES))).to_physical().to_numpy()
                rank = pa.array(ranks(frame["group"].to_numpy(), source))
                ranked = rows.set_column(place, file.schema_arrow.field(place), rank)
                writer.write_table(ranked, row_group_size=len(ranked))

    def _kept(self, file: pq.ParquetFile, column: str) -> Iterator[pa.Table]:
        """The other rows, a row group at a time, where there are any."""
        for k in range(file.num_row_groups):
            rows = file.read_row_group(k, use_threads=False)
            kept = rows.filter((~self._are(frame_of(rows.select([column]))[column])).to_arrow())
            if len(kept):
                yield kept

    # -- vocabularies --------------------------------------------------------------------------------------------------

    def _in_vocabularies(self, path: Path, manifest: Manifest) -> dict[str, int]:
        with _parquet(path) as file:
            rows = frame_of(file.read())
        theirs = rows.filter(self._theirs(rows, _embeddings(path.parent, manifest)))
        self.found |= set(theirs["int_value"].drop_nulls().cast(pl.String)) | set(theirs["text_value"].drop_nulls())
        return {"rows": len(theirs)} if len(theirs) else {}

    def _theirs(self, rows: pl.DataFrame, embeddings: list[str]) -> pl.Series:
        """Which entries of vocabularies are users."""
        column = "text_value" if self.ids.dtype == pl.String else "int_value"
        return rows["embedding"].is_in(embeddings) & self._are(rows[column])

    def _rewrite_vocabularies(self, embeddings: list[str], old: Path, new: Path) -> None:
        """An entry that has a row stays without its value, so that the row belongs to nobody. Such entries are the
        first of their embedding, by row: their place must not tell between which values they were."""
        with _parquet(old) as file:
            schema, rows = file.schema_arrow, frame_of(file.read())
        theirs = self._theirs(rows, embeddings)
        rows = rows.with_columns(
            pl.when(theirs).then(None).otherwise(pl.col(name)).alias(name)
            for name in ("int_value", "text_value", "last_seen")
        ).with_columns(pl.when(theirs).then(0).otherwise(pl.col("count")).alias("count"))
        rows = rows.filter(~(theirs & (rows["row"] == 0)))
        nameless = pl.col("int_value").is_null() & pl.col("text_value").is_null()
        place = pl.when(nameless).then(pl.col("row")).otherwise(pl.lit(2**31 - 1))
        rows = rows.sort(pl.col("embedding"), place, maintain_order=True)
        write_values(new, rows.partition_by("embedding", maintain_order=True), schema)


def _column(stage: str, name: str) -> str | None:
    """The column of user ids of a file, None where it has none."""
    if name == "users.parquet":
        return "id" if stage == "profile" else "user_id"
    return "user_id" if stage == "scores" and fnmatch(name, "part-*.parquet") else None


def _embeddings(folder: Path, manifest: Manifest) -> list[str]:
    """The vocabularies of a model that have user ids: those of features that read a user's id, and of what shares
    theirs."""
    path, data = folder / "features.json", manifest.config["data"]
    keys = {data["events"]["user"], (data["users"] or {}).get("key")}
    with reading(path):
        features = json.loads(path.read_bytes())["features"]
    ids = (f for f in features if f["side"] != "item" and "profile" not in f and f.get("column", f["name"]) in keys)
    return sorted({f.get("embedding_name", f["name"]) for f in ids})


def _numbers(m: Manifest, held: Mapping[str, dict[str, int]]) -> tuple[dict[str, int], dict[str, float]]:
    """Rows and metrics of a manifest that count what was removed, as they are without it."""
    removed: dict[str, int] = {}
    if m.stage == "scores":
        removed = {source: sum(counts.get(source, 0) for counts in held.values()) for source in SOURCES}
        removed["scores"] = sum(removed.values())
    elif "users.parquet" in held:
        removed = {"users": held["users.parquet"]["rows"]}
    rows = {name: n - removed.get(name, 0) for name, n in m.rows.items()}
    metrics = {name: x - removed.get(name.removeprefix("rows."), 0) for name, x in m.metrics.items()}
    return rows, metrics


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Raises UserError: 65 it is no Parquet file, 74 the disk is full or broken."""
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing", RERUN) from error
    except (pa.ArrowException, OSError) as error:
        if full := disk_error(error, path):
            raise full from error
        if isinstance(error, OSError) and error.errno:
            raise
        raise UserError(f"{path}: damaged Parquet: {error}", RERUN) from None
