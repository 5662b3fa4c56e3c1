"""Where the log's files lie: in a local folder or in S3-compatible storage. No other module knows of either.

A further place belongs here: a `Store` that lists folders and files, and a `File` that can be identified and opened.
All are read through pyarrow's filesystems, Parquet by row group and column: no file is downloaded whole. Other formats
are made Parquet first: see `converted`.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.formats.exploded import Exploded
from dmtl_cli.data.log.formats.parquet import Parquet

if TYPE_CHECKING:  # it needs polars, which a command that only looks for files has no use for
    from dmtl_cli.data.log.values.computed import Computed

CONNECT, SILENCE, ATTEMPTS = 5, 10, 3  # seconds, seconds, and how often: an outage is reported within half a minute
_UNREADABLE = "not a readable Parquet file"
_CHUNK = 8 << 20  # bytes per request where a file is read whole
_COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
PARQUET = (".parquet",)
_REGULAR = "expected a regular file, found a FIFO, a device or a socket"


@dataclass(frozen=True)
class File:
    """A file as it was listed. Its text is its location, for messages."""

    store: Store = field(repr=False, compare=False)
    path: str
    """below data.root"""
    size: int
    modified_ns: int
    """nanoseconds since 1970; of S3 whole seconds"""
    origin: str = field(default="", compare=False)
    """location of what it was converted from"""
    origin_row: int | None = field(default=None, compare=False)
    """number of its first row there; None where its rows are some of those"""
    zoneless: frozenset[str] = field(default=frozenset(), compare=False)
    """columns that were converted as `data.types: datetime` where a text names no zone"""
    computed: Computed | None = field(default=None, compare=False)
    """columns that the config makes of others"""
    explode: Exploded | None = field(default=None, compare=False)
    """lists whose elements are its rows"""
    texts: frozenset[str] = field(default=frozenset(), compare=False)
    """columns whose integers are read as text"""

    def __str__(self) -> str:
        return self.origin or self.store.where(self.path)

    def row(self, k: int) -> str:
        """Row k, from 0, as messages name it."""
        return self.own_row(k) if self.explode is None else f"element {k + 1} of the lists that are read"

    def own_row(self, k: int) -> str:
        """A row as it lies in the file, whose lists are not exploded."""
        if not self.origin:
            return f"row {k}"
        return f"row {k + 1} of those that are read" if self.origin_row is None else f"row {self.origin_row + k}"

    @property
    def parent(self) -> str:
        """Location of its folder, for messages."""
        return self.origin.rpartition("/")[0] or self.store.where(str(PurePosixPath(self.path).parent))

    @property
    def stamp(self) -> list[int]:
        """What changes where a writer replaces the file, told without reading it."""
        return [self.size, self.modified_ns]

    @contextlib.contextmanager
    def text(self, encoding: str = "utf-8") -> Iterator[Callable[[int], bytes]]:
        """What reads the next bytes of a text file, about so many, in UTF-8; of *.gz and *.zst what they contain.

        Args:
            encoding: of the file; text in UTF-8 is given as it is.

        Raises:
            UserError: 65 it is damaged or of another encoding, 66 gone or replaced, 74 the storage fails.
        """
        with self._bytes() as raw, contextlib.ExitStack() as stack:
            codec = _COMPRESSED.get(PurePosixPath(self.path).suffix)
            source = stack.enter_context(pa.CompressedInputStream(raw, codec)) if codec else raw

            def read(size: int) -> bytes:
                try:
                    return source.read(size)  # type: ignore[no-any-return]
                except (pa.ArrowException, OSError) as e:
                    raise self.refusal(e, f"damaged {codec or 'file'}") from None

            same = codecs.lookup(encoding).name == "utf-8"
            yield read if same else partial(self._recoded, codecs.getincrementaldecoder(encoding)(), encoding, read)

    @contextlib.contextmanager
    def stream(self) -> Iterator[pa.NativeFile]:
        """Its bytes from the first on, for who reads a few at a time; the storage is asked for many at once.

        Raises:
            UserError: 66 it is gone or replaced, 74 the storage fails. Reading may fail too: see `refusal`.
        """
        with self._bytes() as raw, pa.BufferedInputStream(raw, _CHUNK) as stream:
            yield stream

    def _recoded(
        self, decoder: codecs.IncrementalDecoder, encoding: str, read: Callable[[int], bytes], size: int
    ) -> bytes:
        """The next bytes of another encoding in UTF-8; none at the end alone."""
        while True:
            more = read(size)
            try:
                text = decoder.decode(more, final=not more).encode()
            except UnicodeError as e:
                hint = "name the encoding in data.csv.encoding, or write it in UTF-8"
                raise UserError(f"{self}: not {encoding}: {e}", hint) from None
            if text or not more:
                return text

    @contextlib.contextmanager
    def open(self, dictionaries: Sequence[str] = ()) -> Iterator[Parquet]:
        """The file, opened, its columns flat. Later reads of it may fail too: see `refusal`.

        Args:
            dictionaries: text columns, by their path in the schema, to be read as dictionaries.

        Raises:
            UserError: 65 not Parquet, two columns have one name or one cannot be computed, 66 gone or replaced, 74 the
                storage fails.
        """
        with self._bytes() as raw:
            try:
                # pre_buffer would keep all row groups that are read
                parquet = pq.ParquetFile(raw, pre_buffer=False, read_dictionary=list(dictionaries))
            except (pa.ArrowException, OSError) as e:
                raise self.refusal(e, _UNREADABLE) from None
            nested = not self.origin  # what was converted is flat
            made, lists, texts = self.computed, self.explode, self.texts
            flat = Parquet(parquet, self, nested=nested, computed=made, explode=lists, texts=texts, row_of=self.own_row)
            flat.require_names()
            yield flat

    def identify(self, full: bool) -> dict[str, Any]:
        """{path below data.root, rows, bytes, digest}; digest is the footer's sha256 or (full) that of all bytes."""
        sha = hashlib.sha256()
        with self._bytes() as raw:
            try:
                footer = pq.read_metadata(raw)
                raw.seek(0 if full else self.size - footer.serialized_size - 8)
                while chunk := raw.read(_CHUNK):
                    sha.update(chunk)
            except (pa.ArrowException, OSError) as e:
                raise self.refusal(e, _UNREADABLE) from None
        digest = sha.hexdigest() if full else f"footer:{sha.hexdigest()}"
        return {"path": self.path, "rows": footer.num_rows, "bytes": self.size, "digest": digest}

    def refusal(self, error: Exception, damage: str) -> UserError:
        """What a failed read says: that the storage fails (66, 74), or that the bytes are wrong (65, `damage`)."""
        if isinstance(error, FileNotFoundError):
            return UserError(f"{self}: not there any more", "retry later", Exit.NO_INPUT)
        place = f"{self}: what it was converted to ({self.store.where(self.path)})" if self.origin else str(self)
        if failed := storage_failed(place, error):
            return failed
        hint = "remove that file and run it again" if self.origin else "write the file again"
        return UserError(f"{place}: {damage}: {error}", hint)

    @contextlib.contextmanager
    def _bytes(self) -> Iterator[pa.NativeFile]:
        if self.store.is_special(self.path):  # opening a FIFO would wait for a writer
            raise UserError(f"{self}: {_REGULAR}", "remove it, or write a Parquet file")
        try:
            raw = self.store.fs.open_input_file(str(self.store.root / self.path))
        except OSError as e:
            raise self.refusal(e, _UNREADABLE) from None
        with raw:
            if raw.size() != self.size:  # what is published names the bytes it was made of
                what = f"{self}: changed while it was read, {raw.size()} bytes in place of {self.size}"
                raise UserError(what, "retry later", Exit.NO_INPUT)
            yield raw


class Store:
    """The folders and files below data.root; paths are relative to it.

    Every method raises UserError 74 where the storage cannot be reached or denies the request.
    """

    def __init__(self, root: str) -> None:
        self._local = "://" not in root
        uri = urlsplit(root)
        self.root = PurePosixPath(root if self._local else uri.netloc + unquote(uri.path))
        self.fs = fs.LocalFileSystem() if self._local else _s3(dict(parse_qsl(uri.query)))

    def where(self, path: str) -> str:
        """A place as messages name it."""
        return f"{'' if self._local else 's3://'}{self.root / path}"

    def is_folder(self, path: str) -> bool:
        return self._type(self.root / path, path) is fs.FileType.Directory

    def is_file(self, path: str) -> bool:
        return self._type(self.root / path, path) is fs.FileType.File

    def is_special(self, path: str) -> bool:
        """Whether it is a FIFO, a device or a socket, also through a link."""
        return self._local and self._type(self.root / path, path) is fs.FileType.Unknown

    def file_in_place_of(self, path: str) -> str | None:
        """The file in the place where `path` needs a folder (root, or a part of the path), as messages name it."""
        parts = [".", *(str(p) for p in reversed(PurePosixPath(path).parents) if str(p) != "."), path]
        return next((self.where(p) for p in parts if self._type(self.root / p, path) is fs.FileType.File), None)

    def _type(self, place: PurePosixPath, path: str) -> fs.FileType:
        with self._as_user_error(path):
            return self.fs.get_file_info(str(place)).type

    def folders(self, path: str) -> list[str]:
        """Sorted paths of the folders in a folder; none of one that is not there."""
        with self._as_user_error(path):
            if self._local:
                found = [str(p) for p in _inside(Path(self.root / path)) if p.is_dir()]
            else:
                found = [i.path for i in self._listed(path) if i.type == fs.FileType.Directory]
        return [str(p) for p in sorted(PurePosixPath(p).relative_to(self.root) for p in found)]

    def entries(self, path: str) -> list[str]:
        """Sorted paths of the folders and files in a folder; none of one that is not there."""
        with self._as_user_error(path):
            found = list(map(str, _inside(Path(self.root / path)))) if self._local else self._paths(path)
        return [str(p) for p in sorted(PurePosixPath(p).relative_to(self.root) for p in found)]

    def children(self, path: str) -> tuple[list[str], list[File]]:
        """The folders and the files in a folder, by path; none of one that is not there. A link to nowhere is a
        file."""
        with self._as_user_error(path):
            if self._local:
                found = self.fs.get_file_info(list(map(str, _inside(Path(self.root / path)))))
            else:
                found = self._listed(path)
        named = sorted(((str(PurePosixPath(i.path).relative_to(self.root)), i) for i in found), key=lambda x: x[0])
        folders = [p for p, i in named if i.type is fs.FileType.Directory]
        rest = ((p, i) for p, i in named if i.type is not fs.FileType.Directory)
        return folders, [self._told(p, i) for p, i in rest]

    def file(self, path: str) -> File:
        """One file, whatever it is called."""
        with self._as_user_error(path):
            found = self.fs.get_file_info(str(self.root / path))
        return self._told(path, found)

    def files(self, path: str, suffixes: Sequence[str] = PARQUET) -> list[File]:
        """The files at any depth of a folder whose names end so, by path; links are followed, but
        no folder is there twice.

        A name that begins with a dot or underscore, a file's or that of a folder between, marks what a writer has not
        finished or keeps for itself: such files are left out. A FIFO or device is listed, and refused when it is
        opened; so is a link to nowhere, as rows would be missing unnoticed.
        """
        folder = self.root / path
        with self._as_user_error(path):
            if self._local:  # pyarrow's own list leaves out a link to nowhere
                found = self.fs.get_file_info(list(map(str, _below(Path(folder), set()))))
            else:
                found = self._listed(path, recursive=True)
        named = [(PurePosixPath(i.path), i) for i in found if i.type is not fs.FileType.Directory]
        return [
            self._told(str(p.relative_to(self.root)), i)
            for p, i in sorted(named, key=lambda x: x[0])
            if p.name.endswith(tuple(suffixes)) and not any(part[0] in "._" for part in p.relative_to(folder).parts)
        ]

    def _told(self, path: str, found: fs.FileInfo) -> File:
        """A file as the storage tells of it. Some S3 lists milliseconds, and says whole seconds of one file (MinIO)."""
        modified = found.mtime_ns or 0
        return File(self, path, found.size or 0, modified if self._local else modified // 10**9 * 10**9)

    def _paths(self, path: str) -> list[str]:
        return [i.path for i in self._listed(path)]

    def _listed(self, path: str, recursive: bool = False) -> list[fs.FileInfo]:
        where = fs.FileSelector(str(self.root / path), allow_not_found=True, recursive=recursive)
        return list(self.fs.get_file_info(where))

    @contextlib.contextmanager
    def _as_user_error(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            where = self.where(path)
            raise _remote(where, e) or UserError(f"{where}: cannot be listed: {e}", "run it again", Exit.IO) from None


def _inside(folder: Path) -> list[Path]:
    """What is in a local folder; nothing in one that is not there. `glob` finds nothing in one that cannot be read."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return list(folder.iterdir())
    return []


def _below(folder: Path, seen: set[Path], within: tuple[Path, ...] = ()) -> Iterator[Path]:
    """What is at any depth of a local folder but folders and what a name hides; through links to folders too, but to
    none that it lies in. No folder is `seen` twice, as where `latest` is a link to one beside it."""
    real = folder.resolve()
    if real in seen or (folder.is_symlink() and any(place.is_relative_to(real) for place in within)):
        return
    seen.add(real)
    folders = []
    for path in (path for path in _inside(folder) if path.name[0] not in "._"):
        if path.is_dir():
            folders.append(path)
        else:
            yield path
    for path in sorted(folders, key=lambda path: (path.is_symlink(), path.name)):
        yield from _below(path, seen, (*within, real))


def _s3(options: dict[str, str]) -> fs.S3FileSystem:
    """S3 as data.root's options and the environment describe it."""
    env = os.environ
    named = options.get("endpoint_override") or env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    return fs.S3FileSystem(
        region=options.get("region"),
        scheme=options.get("scheme"),
        endpoint_override=named,
        connect_timeout=CONNECT,
        request_timeout=SILENCE,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


def storage_failed(where: str, error: Exception) -> UserError | None:
    """The error of a disk or of S3; None for one of the bytes."""
    if isinstance(error, OSError) and error.errno:  # without a number it is what a library says of the bytes
        return UserError(f"{where}: cannot be read: {os.strerror(error.errno)}", "run it again", Exit.IO)
    return _remote(where, error)


def _remote(where: str, error: Exception) -> UserError | None:
    """The error of S3; None for one that is not S3's. pyarrow tells them apart by their messages alone."""
    said = str(error).partition("AWS Error ")[2]
    if not said:
        return None
    if re.match("NO_SUCH_BUCKET|NO_SUCH_KEY|RESOURCE_NOT_FOUND", said):
        return UserError(f"{where}: not there: {said}", "is it the right bucket? else retry later", Exit.NO_INPUT)
    if re.search("DENIED|ACCESS_KEY|SIGNATURE|TOKEN|SKEWED|HTTP status (30|40[013])", said):
        hint = "check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile) and the region"
        return UserError(f"{where}: denied: {said}", hint, Exit.IO)
    return UserError(f"{where}: the storage fails: {said}", "check the endpoint, run it again", Exit.IO)


@dataclass(frozen=True)
class OfFile:
    """What is converted of one file."""

    file: File

    @property
    def path(self) -> str:
        """below data.root"""
        return self.file.path

    @property
    def where(self) -> str:
        """for messages"""
        return str(self.file)

    @property
    def stamp(self) -> list[Any]:
        """changes where the file does, as it is now"""
        return [*self.file.store.file(self.file.path).stamp]
