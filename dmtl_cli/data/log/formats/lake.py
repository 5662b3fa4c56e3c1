"""Delta and Iceberg tables: which data files are live, and their rows. No other module imports their libraries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.extras import require
from dmtl_cli.data.log.formats.parquet import flat
from dmtl_cli.data.log.formats.source import File, OfFile, Store, storage_failed
from dmtl_cli.data.log.formats.text_rows import Rows
from dmtl_cli.data.log.values.spool import frame_of

LAKES = ("delta", "iceberg")
BATCH = 65_536
_HARMLESS = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "deletionVectors"}
"""features of a Delta table that change nothing of how its live files are read, as long as none is deleted in part"""
_METADATA = re.compile(r"v?(\d+).*\.metadata\.json")


def files_of(form: str, root: str, store: Store, path: str) -> Sequence[DeltaFile | IcebergFile]:
    """The live files of a table in one of `LAKES`. Raises as `delta_files` and `iceberg_files`."""
    return delta_files(root, store, path) if form == "delta" else iceberg_files(root, store, path)


# -- Delta -------------------------------------------------------------------------------------------------------------


class DeltaFile:
    """A live data file of a Delta table, with the values of its partition."""

    def __init__(self, file: File, partition: dict[str, Any], types: pa.Schema) -> None:
        self.file, self.partition, self.types = file, partition, types
        self.path, self.where = file.path, str(file)

    @property
    def stamp(self) -> list[Any]:
        return [*self.file.stamp, {name: str(value) for name, value in self.partition.items()}]

    def rows(self) -> Iterator[Rows]:
        constants = {name: pa.scalar(value, self.types.field(name).type) for name, value in self.partition.items()}
        return batches(self.file, constants)


@dataclass(frozen=True)
class ParquetFile(OfFile):
    """A Parquet file that is no table's."""

    def rows(self) -> Iterator[Rows]:
        return batches(self.file)


def batches(file: File, constants: Mapping[str, pa.Scalar] = MappingProxyType({})) -> Iterator[Rows]:
    """The rows of a Parquet file, some at a time, with columns of one value beside its own. Raises UserError 65, 66,
    74."""
    row = 0
    with file.open() as parquet:
        try:
            for batch in parquet.iter_batches(BATCH, use_threads=False):
                table = pa.Table.from_batches([batch])
                for name, constant in constants.items():
                    table = table.append_column(name, pa.repeat(constant, len(table)))
                frame = frame_of(table)
                yield Rows(frame, range(row, row + len(frame)))
                row += len(frame)
        except (pa.ArrowException, OSError) as e:
            raise file.refusal(e, f"damaged Parquet after row {row}") from None


def delta_files(root: str, store: Store, path: str) -> list[DeltaFile]:
    """The live files of the newest version.

    Args:
        root: data.root, with the options of its storage.

    Raises:
        UserError: 78 the library is not there; 66 there is no table; 65 it needs what is not read here, as deletion
            vectors or renamed columns; 74 the storage fails.
    """
    require("deltalake", "data.format: delta")
    import deltalake
    from deltalake.exceptions import DeltaError, TableNotFoundError

    where = store.where(path)
    try:
        table = deltalake.DeltaTable(where, storage_options=_delta_options(root))
        _require_plain(table, where)
        actions = pa.table(table.get_add_actions())
        types = pa.schema(table.schema().to_arrow())
    except TableNotFoundError:
        raise UserError(f"{where}: no Delta table there", "is it the folder with _delta_log?", Exit.NO_INPUT) from None
    except OSError as e:
        said = re.sub(r"\x1b\[\d*m", "", str(e))
        raise UserError(f"{where}: the storage fails: {said}", "run it again", Exit.IO) from None
    except (DeltaError, ValueError) as e:
        raise UserError(f"{where}: the Delta table cannot be read: {e}", "see its format's version, or retry") from None
    found = []
    for action in actions.to_pylist():
        name = f"{path}/{unquote(action['path'])}"
        if "://" in action["path"] or action["path"].startswith("/"):
            raise UserError(f"{where}: its file {action['path']} lies elsewhere", "write the table as a whole")
        file = File(store, name, action["size_bytes"], action["modification_time"])
        found.append(DeltaFile(file, action.get("partition") or {}, types))
    return sorted(found, key=lambda one: one.path)


def _require_plain(table: Any, where: str) -> None:
    """Raises UserError 65 where live rows are not all rows of the live files, by the names that these have."""
    protocol = table.protocol()
    odd = sorted({*(protocol.reader_features or [])} - _HARMLESS)
    if (mode := table.metadata().configuration.get("delta.columnMapping.mode", "none")) != "none":
        odd.append(f"columnMapping ({mode})")
    elif protocol.min_reader_version > 3:
        odd.append(f"reader version {protocol.min_reader_version}")
    if odd:
        raise UserError(f"{where}: the Delta table needs {odd[0]}, which is not read", "write it without")
    if "deletionVectors" in (protocol.reader_features or []) and pa.table(table.deletion_vectors()).num_rows:
        hint = "run REORG TABLE ... APPLY (PURGE) or OPTIMIZE on it, which writes its files without"
        raise UserError(f"{where}: the Delta table has deletion vectors, which are not read", hint)


def _delta_options(root: str) -> dict[str, str]:
    """data.root's options as the library calls them."""
    given = dict(parse_qsl(urlsplit(root).query)) if "://" in root else {}
    options = {"AWS_REGION": given.get("region"), "AWS_ENDPOINT_URL": given.get("endpoint_override")}
    if given.get("scheme") == "http":
        options["AWS_ALLOW_HTTP"] = "true"
    endpoint = options["AWS_ENDPOINT_URL"]
    if endpoint and "://" not in endpoint:
        options["AWS_ENDPOINT_URL"] = f"{given.get('scheme', 'https')}://{endpoint}"
    return {name: value for name, value in options.items() if value}


# -- Iceberg -----------------------------------------------------------------------------------------------------------


class IcebergFile:
    """A live data file of an Iceberg table, without the rows that its delete files name."""

    def __init__(self, table: Any, task: Any, folder: str) -> None:
        self.table, self.task = table, task
        self.where = str(task.file.file_path)
        # files of several partitions may have one name, so it takes the whole path to tell them apart
        home, place = (urlsplit(str(x)).path for x in (table.location(), self.where))
        self.path = f"{folder}/{place.removeprefix(home.rstrip('/')).lstrip('/')}"

    @property
    def stamp(self) -> list[Any]:
        deletes = sorted(str(one.file_path) for one in self.task.delete_files)
        return [self.where, self.task.file.file_size_in_bytes, self.table.schema().schema_id, *deletes]

    def rows(self) -> Iterator[Rows]:
        from pyiceberg.expressions import AlwaysTrue
        from pyiceberg.io.pyarrow import ArrowScan

        row, metadata = 0, self.table.metadata
        scan = ArrowScan(metadata, self.table.io, self.table.schema(), AlwaysTrue())
        try:
            for batch in scan.to_record_batches([self.task]):
                frame = frame_of(pa.Table.from_batches([flat(batch)]))
                yield Rows(frame, range(row, row + len(frame)))
                row += len(frame)
        except FileNotFoundError:
            raise UserError(f"{self.where}: not there any more", "retry later", Exit.NO_INPUT) from None
        except (pa.ArrowException, OSError, ValueError) as e:
            what = f"{self.where}: the Iceberg table's file cannot be read: {e}"
            raise storage_failed(self.where, e) or UserError(what, "retry later") from None


def iceberg_files(root: str, store: Store, path: str) -> list[IcebergFile]:
    """The live files of a table's current snapshot.

    Args:
        root: data.root, with the options of its storage.
        path: the table's folder, or one of its *.metadata.json.

    Raises:
        UserError: 78 the library is not there; 66 there is no table; 65 it cannot be read, or two files are its newest
            metadata; 74 the storage fails.
    """
    require("pyiceberg", "data.format: iceberg")
    from pyiceberg.table import StaticTable

    metadata = path if path.endswith(".metadata.json") else _newest_metadata(store, path)
    where = store.where(metadata)
    try:
        table = StaticTable.from_metadata(where, _iceberg_options(root))
        tasks = list(table.scan().plan_files())
    except FileNotFoundError:
        raise UserError(f"{where}: not there", "name the table's folder or its metadata", Exit.NO_INPUT) from None
    except Exception as e:  # whatever damaged bytes do to the library
        what = f"{where}: the Iceberg table cannot be read: {e}"
        raise storage_failed(where, e) or UserError(what, "see its format's version, or retry") from None
    folder = str(PurePosixPath(metadata).parent.parent)
    return sorted((IcebergFile(table, task, folder) for task in tasks), key=lambda one: (one.path, one.where))


def _newest_metadata(store: Store, path: str) -> str:
    """Path of a table's current metadata: what version-hint.text names, else that of the highest number."""
    files = {
        PurePosixPath(f.path).name: f for f in store.files(f"{path}/metadata", (".metadata.json", "version-hint.text"))
    }
    if hint := files.pop("version-hint.text", None):
        with hint.text() as read:
            said = read(1 << 10).decode("utf-8", "replace").strip()
        name = said if said.endswith(".metadata.json") else f"v{said}.metadata.json"
        return f"{path}/metadata/{name}"
    numbered = sorted((int(found[1]), name) for name in files if (found := _METADATA.fullmatch(name)))
    if not numbered:
        where = store.where(path)
        raise UserError(f"{where}: no Iceberg table there", "is it the folder with metadata/?", Exit.NO_INPUT)
    if [number for number, _ in numbered].count(numbered[-1][0]) > 1:
        both = " and ".join(name for number, name in numbered if number == numbered[-1][0])
        raise UserError(f"{store.where(path)}: which is its newest metadata, {both}?", "name one of them by path")
    return f"{path}/metadata/{numbered[-1][1]}"


def _iceberg_options(root: str) -> dict[str, str]:
    given = dict(parse_qsl(urlsplit(root).query)) if "://" in root else {}
    endpoint, scheme = given.get("endpoint_override"), given.get("scheme", "https")
    if endpoint and "://" not in endpoint:
        endpoint = f"{scheme}://{endpoint}"
    options = {"s3.region": given.get("region"), "s3.endpoint": endpoint}
    return {name: value for name, value in options.items() if value}
