"""The commands that answer from the export that is served: for one user, for a file of them, or over HTTP."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dmtl_cli.cli import signals
from dmtl_cli.cli.ending import guarded
from dmtl_cli.cli.options import SERVING, ConfigFile, Json, Sets, listed, load_config, seconds
from dmtl_cli.config.errors import Exit, UserError, printable
from dmtl_cli.runs.workspace import Workspace

if TYPE_CHECKING:
    from dmtl_cli.serving.export import Export
    from dmtl_cli.serving.shown import Known

commands = typer.Typer()
User = Annotated[str | None, typer.Option(metavar="ID", help="A user id of the export.", show_default=False)]
Given = Annotated[
    list[str],
    typer.Option(
        "--feature",
        metavar="NAME=VALUE",
        help="A raw value in place of what is stored of the user, or of somebody new; may be repeated.",
        show_default=False,
    ),
]
Users = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Parquet or CSV with user_id, or as the log calls it, raw features, or both; or an id a line.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--out",
        metavar="FILE",
        help="With --users: the Parquet file to write; an earlier one is replaced.",
        show_default=False,
    ),
]
K = Annotated[int, typer.Option("-k", metavar="N", min=1, help="How many items.")]
ExcludeSeen = Annotated[
    bool,
    typer.Option("--exclude-seen", metavar="", help="Leave out what the user has seen: see export.seen and seen_days."),
]
Kappa = Annotated[
    float | None,
    typer.Option(
        metavar="NUMBER", min=0, help="How much of what is shown counts, in place of the export's.", show_default=False
    ),
]
Verify = Annotated[
    bool, typer.Option("--verify", metavar="", help="Hash every file of the export first, not only its size.")
]
Place = Annotated[Path, typer.Argument(metavar="PLACE", help="A workspace, its export/, or the folder of one export.")]
Host = Annotated[str, typer.Option("--host", metavar="HOST", help="The address to listen at.")]
Port = Annotated[int, typer.Option("--port", metavar="PORT", min=0, max=65_535, help="0: any that is free.")]
Poll = Annotated[str, typer.Option("--poll", metavar="DURATION", help="How often LATEST is looked at: 1s, 10s, 1m.")]
Computing = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, max=256, help="Requests computed at a time; default: the cores."),
]
Items = Annotated[
    Path | None,
    typer.Option("--items", metavar="FILE", help="Parquet or CSV with item_id, and columns to filter by."),
]


Filter = Annotated[
    list[str],
    typer.Option(
        "--filter",
        metavar="COLUMN=VALUE",
        help='Only items with this value, one of a JSON list, or within {"min": .., "max": ..}; may be repeated.',
        show_default=False,
    ),
]
Columns = Annotated[
    list[str],
    typer.Option(
        "--columns",
        metavar="NAMES",
        help="Columns to print behind the score: title,genres; of the export, --items or the log's table; repeatable.",
        show_default=False,
    ),
]


@listed(commands, "recommend", SERVING, "--config mylog.yaml --user 42 -k 10")
@guarded
def recommend(
    config: ConfigFile,
    user: User = None,
    feature: Given = [],  # noqa: B006
    users: Users = None,
    out: Out = None,
    k: K = 20,
    exclude_seen: ExcludeSeen = False,
    kappa: Kappa = None,
    filters: Filter = [],  # noqa: B006
    columns: Columns = [],  # noqa: B006
    items: Items = None,
    verify: Verify = False,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """The top items of a user, known or by raw values, or of every user of a file, from the export that is served."""
    one = user is not None or bool(feature)
    if one == (users is not None) or (users is None) != (out is None):
        what = "expected --user ID, --feature NAME=VALUE or both, or --users FILE with -o FILE.parquet"
        raise UserError(what, code=Exit.USAGE)
    if out is not None and out.suffix != ".parquet":
        raise UserError(f"-o {out}: expected a name that ends in .parquet", code=Exit.USAGE)
    if kappa is not None and not math.isfinite(kappa):
        raise UserError(f"--kappa: expected a finite number, got {kappa}", code=Exit.USAGE)
    if columns and not one:
        raise UserError("--columns: for one user; a table of many is joined by item_id", code=Exit.USAGE)
    from dmtl_cli.serving.export import Export
    from dmtl_cli.serving.shown import Known, filter_of

    read, wanted = load_config(config, sets), filter_of(filters)
    export = Export.open(Workspace(Path(read.workspace)).root, verify)
    known = Known.of(export, read, wanted, ",".join(columns) or None, items)
    for line in known.unknown:
        _say(f"dmtl: {line}")
    lists = {"k": k, "exclude_seen": exclude_seen, "among": known.among, "kappa": kappa}
    if one:
        _one(export, user, feature, lists, known, as_json)
    elif users is not None and out is not None:
        _many(export, users, read.data.events.user, out, lists, as_json)


def _one(
    export: Export, user: str | None, given: list[str], lists: dict[str, Any], items_known: Known, as_json: bool
) -> None:
    """Args: lists: of what they are, as keywords of `Export.recommend`."""
    from dmtl_cli.serving.given import parsed, unknown_values
    from dmtl_cli.serving.shown import json_of, text_of

    values = parsed(export.encoder, given) if given else None
    found = export.recommend(user, values=values, **lists)
    rows, more = found.rows(named=True), items_known.columns_of(found["item_id"])
    for line in unknown_values(export.encoder, values or {}):
        _say(f"dmtl: {line}")
    known = user is not None and (values is None or len(export.served(user)) > 0)
    if as_json:
        # an int64 does not fit the numbers of most readers of JSON
        items = [row | {"item_id": str(row["item_id"])} for row in rows]
        if more is not None:
            told = [{name: json_of(value) for name, value in own.items()} for own in more]
            items = [row | {"columns": columns} for row, columns in zip(items, told, strict=True)]
        print(json.dumps({"user": user, "known": known, "export": str(export.folder), "items": items}, default=str))
    else:
        if user is not None and not known:
            _say(f"dmtl: user {user} is not in the export: their list is of what --feature says alone")
        lines = [f"{printable(str(row['item_id']))}\t{row['score']:.4f}" for row in rows]
        if more is not None:
            lines = ["\t".join([line, *map(text_of, own.values())]) for line, own in zip(lines, more, strict=True)]
        if sys.stdout.isatty():
            lines.insert(0, "\t".join(["item_id", "score", *map(printable, items_known.names or ())]))
        print("".join(f"{line}\n" for line in lines), end="")  # of no item nothing, not an empty line


def _many(export: Export, users: Path, own: str, out: Path, lists: dict[str, Any], as_json: bool) -> None:
    """Args: own: what the log calls the users' ids; lists: of what they are, as keywords of `recommend_to`."""
    from dmtl_cli.serving.batch import read_users, recommend_to

    features = [f.name for f in export.encoder.features_of_side("user")]
    who = read_users(users, export.user_ids, features, own)
    found = recommend_to(export, who, out, **lists)
    counts = {"known": found.known, "cold": found.cold, "unknown": len(found.unknown)}
    if as_json:
        print(json.dumps({"export": str(export.folder), "out": str(out), **counts}))
    elif found.unknown:
        some = ", ".join(map(printable, found.unknown[:3])) + (", ..." if len(found.unknown) > 3 else "")
        told = f"{_users(len(found.unknown))} not in the export and left out: {some}"
        typer.echo(f"dmtl: {_users(found.known + found.cold)} in {out}; {told}", err=True)


def _users(count: int) -> str:
    return f"{count} user{'s' * (count != 1)}"


@listed(commands, "serve", SERVING, "work/mylog --port 8000")
@guarded
def serve(
    place: Place,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    poll: Poll = "10s",
    threads: Computing = None,
    items: Items = None,
) -> None:
    """Answers over HTTP from the export that LATEST names, and follows it."""
    if (pause := seconds(poll, "--poll")) <= 0:
        raise UserError(f"--poll: expected 1s or more, got {poll!r}", code=Exit.USAGE)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # a request has one core; many make use of all
    from dmtl_cli.serving.server import serve as serve_until_stopped

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        serve_until_stopped(place, host=host, port=port, poll=pause, threads=threads or cores, items=items, say=_say)
    except signals.Stopped as stopped:  # raised once open requests were answered
        if stopped.number == signal.SIGHUP:
            raise
        _say("dmtl: stopped")


def _say(line: str) -> None:
    typer.echo(printable(line), err=True)
