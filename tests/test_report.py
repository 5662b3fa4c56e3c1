"""dmtl report: pages of a real chain and of chains with holes, as files, as HTML and in a browser."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from chains import Chain, age, day
from worlds import BASE, DAYS, Project, dmtl

from dmtl_cli.config.evaluate import LISTS
from dmtl_cli.config.reading import load_config
from dmtl_cli.evaluate.curves import histogram, reliability
from dmtl_cli.report import blocks, library, writing
from dmtl_cli.report.day import _pcoc_tile
from dmtl_cli.report.facts import gather
from dmtl_cli.report.index import held_of, index_sections
from dmtl_cli.report.page import held_in, render
from dmtl_cli.report.words import READ
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.synth.generate import generate

pytest.importorskip("vl_convert")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = (
    "</script><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)> \u202eright to left ‏שלום 🎬"
)
MOST = 1_500_000
VOID = {"meta", "img", "br", "link", "path"}


class Parsed(HTMLParser):
    """A page as its tags are nested. Raises AssertionError where one is closed that is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: list[set[str]] = []
        self.texts: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "figure":
            self.figures.append(set())
        if "figure" in self.open:
            self.figures[-1].add(
                "plotted" if tag == "svg" and "figcaption" not in self.open and "li" not in self.open else tag
            )
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open.pop() == tag, (tag, self.open[-3:])

    def handle_data(self, data: str) -> None:
        name = self.open[-1] if self.open else ""
        self.texts[name] = self.texts.get(name, "") + data + "\n"

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def without_library(text: str) -> str:
    """The page but for the drawing library's script."""
    return re.sub(r"<script>.{500000,}?</script>", "", text, flags=re.DOTALL)


@pytest.fixture(scope="module", autouse=True)
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The script of the library, made once: it takes more than a second."""
    whole = library.library(tmp_path_factory.mktemp("library"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "library", lambda folder: whole)
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three days, with titles that want to break out of the page."""
    home = tmp_path_factory.mktemp("report")
    generate(home, 3, start=dt.date(2026, 1, 1), users=40, items=40, events_per_day=400, seed=1)
    for file in sorted(home.glob("log/items/*/*.parquet")):
        items = pl.read_parquet(file, hive_partitioning=False)
        titles = [f"{HOSTILE} {k}" if k % 2 else f"A film of number {k}" for k in range(len(items))]
        items.with_columns(pl.Series("title", titles)).write_parquet(file)
    config = json.loads(json.dumps(BASE)) | {"gates": {"quality": True, "errors": 50}}
    read = {"name": "read_before", "side": "user", "kind": "sequence", "embedding_name": "item_id"}
    config["features"].append(read | {"profile": {"history": "read"}})
    made = Project.create(home, home / "log", config=config)
    ended = made.call("backfill", "--from", DAYS[0], "--to", DAYS[2])
    assert (ended.code, ended.err) == (0, "")
    return made


@pytest.fixture(scope="module")
def page(project: Project) -> str:
    return (project.ws / f"report/day={DAYS[2]}.html").read_text()


# -- a real chain ------------------------------------------------------------------------------------------------------


def test_a_run_writes_the_page_of_its_day(project: Project) -> None:
    """And the index; neither is a run, and a rerun of what is up to date leaves them."""
    folder = project.ws / "report"
    assert {f.name for f in folder.glob("[!.]*")} == {*(f"day={d}.html" for d in DAYS[:3]), "index.html"}
    assert not list(folder.glob(".*")), "no draft is left"
    before = {f: f.stat().st_mtime_ns for f in folder.glob("*.html")}
    assert project.call("run", "--day", DAYS[2]).code == 0
    assert {f: f.stat().st_mtime_ns for f in folder.glob("*.html")} == before


def test_the_page_says_what_manifests_say(project: Project, page: str) -> None:
    evaluated = json.loads(next(project.ws.glob(f"evaluation/day={DAYS[2]}/run-*/manifest.json")).read_text())
    for name in ("teacher.ctr.auc", "student.read.recall@50", "read_popularity.read.recall@50", "teacher.ctr.pcoc"):
        assert f"{evaluated['metrics'][name]:.3f}" in page, name
    order = re.findall(r'<section id="(\w+)"', page)
    assert order == [
        *("headline", "flow", "features", "metrics", "gates", "calibration", "scores", "distillation", "retrieved"),
        *("lists", "experts", "cost", "warnings", "served", "config", "inputs", "all"),
    ]
    for manifest in project.ws.glob(f"*/day={DAYS[2]}/run-*/manifest.json"):
        assert json.loads(manifest.read_text())["run_id"] in page
    assert "events/day=2026-01-03/part-0.parquet" in page and "As the day before." in page
    assert "peak memory" in page and re.search(r"\d+ (MB|GB)", page)


def test_the_page_is_one_small_well_formed_file(page: str) -> None:
    assert len(page.encode()) <= MOST
    parsed = Parsed(page)
    assert len(parsed.figures) > 25 and all({"details", "table", "h3"} <= figure for figure in parsed.figures)
    assert [t for t, _ in parsed.tags if t in ("h1", "main", "header", "footer")] == ["header", "h1", "main", "footer"]
    ids = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(ids) == len({*ids}) and {a["href"] for a in parsed.named("a") if (a["href"] or "")[0] == "#"} <= {
        f"#{i}" for i in ids
    }
    assert all("scope" in a for a in parsed.named("th")) and parsed.named("html")[0]["lang"] == "en"


def test_nothing_is_fetched(page: str) -> None:
    own = without_library(page)
    assert len(own) < 500_000
    assert not re.search(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", own.replace(blocks_escaped(HOSTILE), ""))
    assert not re.search(r"@import|url\(|fetch\(|<link|<iframe|<img", own)
    policy = next(a["content"] for a in Parsed(page).named("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'") and "http" not in policy
    scripts = policy.partition("script-src")[2]
    assert scripts.count("'sha256-") == 2 and "unsafe" not in scripts


def blocks_escaped(text: str) -> str:
    from html import escape

    return escape("".join(c for c in text if c.isprintable()))


def test_titles_are_words_and_cannot_break_out(page: str) -> None:
    assert "Items by their column title." in page and "A film of number" in page
    assert "<script>alert" not in page and "<img" not in without_library(page) and "\u202e" not in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page and "🎬" in page and "<li dir=auto>" in page


def test_a_page_is_the_same_when_it_is_written_again(project: Project, page: str) -> None:
    ended = project.call("report", "--day", DAYS[2])
    assert (ended.code, ended.out.strip()) == (0, str(project.ws / f"report/day={DAYS[2]}.html"))
    assert (project.ws / f"report/day={DAYS[2]}.html").read_text() == page
    assert project.call("report", "--json").json == {"page": str(project.ws / f"report/day={DAYS[2]}.html")}


def test_the_first_day_has_no_evaluation(project: Project) -> None:
    first = (project.ws / f"report/day={DAYS[0]}.html").read_text()
    assert "stored nothing to draw" in first and "There is no day before to compare with." in first
    assert 'id="lists"' not in first and 'id="retrieved"' not in first, "there is no export yet"
    Parsed(first)


def test_the_index_links_days_with_their_headline(project: Project) -> None:
    found = held_in(project.ws / f"report/day={DAYS[2]}.html")
    text = (project.ws / "report/index.html").read_text()
    assert found["metrics"]["teacher.ctr.auc"] and f"{found['metrics']['teacher.ctr.auc']:.3f}" in text
    metrics = json.loads(next(project.ws.glob(f"evaluation/day={DAYS[2]}/run-*/manifest.json")).read_text())["metrics"]
    best = max(metrics[f"{name}.read.recall@50"] for name in LISTS if f"{name}.read.recall@50" in metrics)
    assert found["metrics"]["best_list.read.recall@50"] == best and ">best list<" in text
    assert re.findall(r'href="(day=[\d-]+\.html)"', text) == [f"day={d}.html" for d in reversed(DAYS[:3])]
    assert len(text.encode()) <= MOST and len(Parsed(text).figures) >= 4
    (project.ws / f"report/day={DAYS[1]}.html").unlink()
    ended = project.call("report", "--index", "--json")
    assert ended.json == {"index": str(project.ws / "report/index.html"), "days": 3}
    assert (project.ws / f"report/day={DAYS[1]}.html").exists(), "a page that was not there is written"


def test_what_is_drawn_names_nobody_and_adds_up(project: Project) -> None:
    """Shares are of all that was retrieved; bins have every row; the catalogue is the day's."""
    file = next(project.ws.glob(f"evaluation/day={DAYS[2]}/run-*/curves.json"))
    found = json.loads(file.read_text())
    manifest = json.loads((file.parent / "manifest.json").read_text())
    for shares in (*found["popularity"].values(), *found["age"].values()):
        assert sum(shares) == pytest.approx(1, abs=1e-4)
    assert sum(found["catalogue"]) == manifest["rows"]["items"] and found["catalogue"][-1] == 0
    click = found["histograms"]["ctr"]["teacher"]
    assert sum(click["positive"]) + sum(click["negative"]) == manifest["rows"]["events"]
    assert sum(b["rows"] for b in found["reliability"]["ctr"]["teacher"]) == manifest["rows"]["events"]
    pcoc = sum(b["rows"] * b["predicted"] for b in found["reliability"]["ctr"]["teacher"]) / sum(click["positive"])
    assert pcoc == pytest.approx(manifest["metrics"]["teacher.ctr.pcoc"], rel=1e-3)
    assert found["overlap"]["student_teacher"] <= 1 and "user" not in {*found} and "fresh" not in found["overlap"]
    assert 0 < found["overlap"]["popularity"] <= 1


# -- a good click that is no read --------------------------------------------------------------------------------------

WORDS = {  # on a page of a log with a duration, and with a column of good clicks, of which a click is the first
    "AUC, read": "AUC, good click",
    "GAUC, click and read": "GAUC, good click",
    "AUC, read of clicks": "AUC, good given a click",
    "PCOC of the teacher, click and read": "PCOC of the teacher, good click",
    "held-out AUC, read of clicks": "held-out AUC, good given a click",
    "Recall@50, read": "Recall@50, good click",
    "Recall@50 on its own day, read": "Recall@50 on its own day, good click",
    ": rate of reads.": ": rate of good clicks.",
    "read rate of clicks": "share of clicks that are good",
    "click and read: teacher: scores of rows read": "good click: teacher: scores of rows good",
    "</svg>not read": "</svg>not good",
    '"name":"read of clicks"': '"name":"good given a click"',
    "read, up to that day": "good click, up to that day",
}
WORDS_OF_INDEX = {
    "AUC read": "AUC good click",
    "Recall@50 read": "Recall@50 good click",
    "Recall@50, read": "Recall@50, good click",
}


def pages_of(project: Project, role: str) -> tuple[str, str]:
    """The newest day's page and the index of it, were the second label of this role of the log."""
    ws, on = Workspace(project.ws), dt.date.fromisoformat(DAYS[2])
    facts = gather(ws, on)
    made = [replace(m, config=m.config | {"data": {"events": {role: "bought"}}}) for m in facts.runs]
    facts = replace(facts, runs=made)
    page = render("t", "s", writing._sections(facts, ws, load_config(project.file, [])), "", [], held_of(facts))
    before = dt.timedelta(days=1)
    found = {on: held_of(facts), on - before: {"k": 50}}  # the other one is of an earlier version
    return page, render("t", "s", index_sections(found), "", [])


def test_a_page_has_the_words_of_its_log(project: Project) -> None:
    """A good click of a column may be a purchase. Metrics and gates have their names all the same."""
    for k, role in enumerate(("duration", "conversion")):
        page, index = pages_of(project, role)
        for text, pairs in ((page, WORDS), (index, WORDS_OF_INDEX)):
            missing = [pair[k] for pair in pairs.items() if pair[k] not in text]
            wrong = [pair[1 - k] for pair in pairs.items() if pair[1 - k] in text]
            assert not missing and not wrong, (role, missing, wrong)
        assert "export.recall.read" in page and "read.recall@50" in page
    said = re.sub(r"<script>.*?</script>|<footer>.*?</footer>", "", page + index, flags=re.DOTALL)
    left = re.findall(r"(?<![.\w])[Rr]eads?(?![.\w]| seconds).{,60}", said)  # a log without a duration has no seconds
    assert left == []


def test_a_day_without_a_run_has_the_words_of_the_days_before(project: Project) -> None:
    facts = gather(Workspace(project.ws), dt.date.fromisoformat(DAYS[2]))
    assert facts.words.label == replace(facts, runs=[]).words.label == "read"
    before = {s: replace(m, config={"data": {"events": {"conversion": "x"}}}) for s, m in facts.yesterday.items()}
    assert replace(facts, runs=[], yesterday=before).words.label == "good click"


# -- in a browser ------------------------------------------------------------------------------------------------------


def browser(page: Path, home: Path, *more: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    quiet = [
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "disable-quic",
    ]
    flags = [
        f"--{f}" for f in ("headless", "no-sandbox", "disable-gpu", "hide-scrollbars", *quiet, "enable-logging=stderr")
    ]
    place = [f"--user-data-dir={home / 'profile'}", "--virtual-time-budget=20000", *more, page.as_uri()]
    return subprocess.run([CHROMIUM, *flags, *place], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_draws_every_figure_without_an_error(project: Project, width: int, tmp_path: Path) -> None:
    """Its screenshot stays with the test, and in DMTL_ARTIFACTS where that names a folder."""
    file = project.ws / f"report/day={DAYS[2]}.html"
    shot = tmp_path / f"report-{width}.png"
    ended = browser(file, tmp_path, f"--window-size={width},2400", f"--screenshot={shot}", "--dump-dom")
    assert "CONSOLE" not in ended.stderr, [line for line in ended.stderr.splitlines() if "CONSOLE" in line][:3]
    drawn = Parsed(re.sub(r"<script>.{500000,}?</script>", "", ended.stdout, flags=re.DOTALL))
    assert len(drawn.figures) > 25 and all("plotted" in figure for figure in drawn.figures)
    assert struct.unpack(">I", shot.read_bytes()[16:20])[0] == width
    if folder := os.environ.get("DMTL_ARTIFACTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(shot, folder)


# -- chains with holes -------------------------------------------------------------------------------------------------


def test_a_day_of_bare_manifests(tmp_path: Path) -> None:
    """Runs of another version: no metrics, no gates, no curves, no log, and an export that cannot be read."""
    chain = Chain(tmp_path, 2)
    ended = chain.project.call("report", "--day", day(2))
    assert (ended.code, ended.err) == (0, "")
    text = Path(ended.out.strip()).read_text()
    Parsed(text)
    assert "No log says how long the day took." in text and "The export cannot be read" in text
    assert "nothing was judged" in text


def test_a_refused_day_has_its_reasons(tmp_path: Path) -> None:
    chain = Chain(tmp_path, 2)
    folder = chain.project.ws / "rejected"
    (folder / f"teacher-{day(3)}").mkdir(parents=True)
    (folder / f"teacher-{day(3)}.txt").write_text("dmtl: error: AUC of ctr is .51 <b>\nAUC of cvr is .5\n")
    gate = {
        "name": "teacher.auc.ctr",
        "kind": "quality",
        "value": 0.51,
        "limit": [0.53, None],
        "passed": False,
        "baseline": 0.7,
    }
    (folder / f"teacher-{day(3)}/manifest.json").write_text(json.dumps({"gates": [gate]}))
    ended = chain.project.call("report", "--day", day(3))
    assert ended.code == 0, ended.err
    text = Path(ended.out.strip()).read_text()
    assert "teacher: AUC of ctr is .51 &lt;b&gt;" in text and "AUC of cvr is .5" in text
    assert "1 failed" in text and "teacher.auc.ctr" in text and "≥ 0.530" in text
    held = held_in(Path(ended.out.strip()))
    assert held["failed"] == 1 and not held["exported"]


def test_what_gates_said_in_spite_of_is_told(tmp_path: Path) -> None:
    chain = Chain(tmp_path, 2)
    chain.make(
        "teacher", day(2), (), "again", facts={"forced": "launch <day>", "ungated": True, "warnings": ["few\nsteps"]}
    )
    text = Path(chain.project.call("report").out.strip()).read_text()
    assert "in spite of its gates: launch &lt;day&gt;" in text and "its quality gates were off" in text
    assert "fewsteps" in text


def test_what_differs_from_the_day_before(tmp_path: Path) -> None:
    chain = Chain(tmp_path, 2)
    chain.make("teacher", day(2), (), "again", config={"teacher": {"epochs": 3}}, seed=2)
    text = Path(chain.project.call("report").out.strip()).read_text()
    assert all(f">{word}<" in text for word in ("teacher", "not there", "seed")) and "epochs" in text


def test_errors_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain(tmp_path)
    assert chain.project.call("report").code == 66, "nothing is published"
    chain.run(1)
    ended = chain.project.call("report", "--day", "2030-01-01")
    assert ended.code == 66 and "nothing of day 2030-01-01 is published" in ended.err
    assert dmtl("report", "--config", chain.project.file, "--day", "1.1.2026").code == 2
    monkeypatch.setattr(writing, "library", library.library)
    monkeypatch.setattr("dmtl_cli.config.extras.has", lambda _: False)
    ended = chain.project.call("report")
    assert ended.code == 69 and "pip install -e '.[report]'" in ended.err


def test_a_report_that_fails_fails_no_day(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from dmtl_cli.stages import report

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(report, "write_page", broken)
    (project.ws / f"report/day={DAYS[2]}.html").rename(project.ws / "aside")
    assert project.call("run", "--day", DAYS[2]).code == 0
    assert f"report {DAYS[2]}: warning: bug: RuntimeError: broken" in project.logged("run", 3)
    (project.ws / "aside").rename(project.ws / f"report/day={DAYS[2]}.html")


def test_gc_takes_pages_of_days_that_are_gone(tmp_path: Path) -> None:
    chain = Chain(tmp_path, 8)
    assert chain.project.call("report", "--index").code == 0
    for run in chain.project.ws.glob("export/day=*/run-*"):
        age(run, 2)
    chain.called("gc", "--keep-days", 2, "--delete")
    left = sorted(f.name for f in (chain.project.ws / "report").glob("day=*.html"))
    assert left and left[-1] == f"day={day(8)}.html" and f"day={day(1)}.html" not in left
    assert chain.project.call("report", "--index").code == 0


def test_forget_takes_all_pages(project: Project, tmp_path: Path) -> None:
    """A list may be of a user who is to be forgotten."""
    shutil.copytree(project.ws, tmp_path / "ws")
    (tmp_path / "users.txt").write_text("1\n")
    ended = project.call("forget", "--users", tmp_path / "users.txt", workspace=tmp_path / "ws")
    assert (ended.code, ended.err) == (0, "") and not (tmp_path / "ws/report").exists()


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_the_mark_of_a_pcoc_is_that_of_its_number() -> None:
    tiles = [_pcoc_tile([("ctr", ctr), ("ctcvr", both)], READ) for ctr, both in ((1.02, 1.3), (1.2, 1.0), (1.0, 1.05))]
    assert [tile.state for tile in tiles] == ["", "note", "good"]
    assert [tile.beside for tile in tiles] == [
        ["click and read 1.300, more than .1 from 1"], ["click and read 1.000"], ["click and read 1.050"],
    ]  # fmt: skip


def test_reliability_by_hand() -> None:
    """Five bins of equal weight of ten rows; a row of no weight is in none."""
    p = np.arange(1, 11) / 20
    y = np.array([0, 0, 0, 1, 0, 1, 1, 0, 1, 1], np.bool_)
    found = reliability(y, np.log(p), np.ones(10), bins=5)
    assert [b["rows"] for b in found] == [2] * 5
    assert [b["predicted"] for b in found] == pytest.approx([0.075, 0.175, 0.275, 0.375, 0.475])
    assert [b["observed"] for b in found] == [0, 0.5, 0.5, 0.5, 1]
    weight = np.array([1, 0, 1, 1, 1, 1, 1, 1, 1, 2.0])
    weighted = reliability(y, np.log(p), weight, bins=2)
    assert [b["rows"] for b in weighted] == [5, 4]
    assert weighted[1]["observed"] == pytest.approx((1 + 0 + 1 + 2) / 5)


def test_histogram_has_every_row() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(5_000) * 0.98 + 0.01
    y = rng.random(5_000) < p
    found = histogram(y, np.log(p), bins=10)
    assert (sum(found["positive"]), sum(found["negative"])) == (y.sum(), (~y).sum())
    logit = np.log(p / (1 - p))
    edges = np.linspace(found["from"], found["to"], 11)
    expected = np.histogram(np.clip(logit[y], found["from"], found["to"]), edges)[0]
    assert found["positive"] == expected.tolist()
    flat = histogram(y, np.full(5_000, np.log(0.5)), bins=4)
    assert sum(flat["positive"]) == y.sum(), "scores that are all the same"
    certain = histogram(np.array([True, False]), np.zeros(2), bins=4)
    assert np.isfinite(certain["from"]), "a probability of 1"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.6684, "0.668"),
        (2992, "2,992"),
        (37.52, "37.5"),
        (6.1e-4, "6.1e-04"),
        (0.0, "0.000"),
        (1.0, "1.000"),
    ],
)
def test_numbers_as_people_read_them(value: Any, text: str) -> None:
    assert blocks.number(value) == text


def test_sizes_and_durations() -> None:
    assert [blocks.size(n) for n in (12, 26_338, 1_500_000, 2.5e9, 3e13)] == [
        "12 B",
        "26.3 KB",
        "1.5 MB",
        "2.5 GB",
        "30.0 TB",
    ]
    assert [blocks.duration(s) for s in (8.41, 600, 10_000)] == ["8.4 s", "10 min", "2.8 h"]
    assert blocks.share(0.2534) == "25.3%"


def test_logs_tell_seconds_and_memory(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "logs/run-2026-01-01.jsonl")
    log.published(1.234, run_id="a" * 12)
    log.published(None, run_id="b" * 12)
    (tmp_path / "logs/other.jsonl").write_text('{"event": "published", "run_id": "c", "seconds": 2}\n{"published\n')
    found = RunLog.published_in(tmp_path / "logs")
    assert found["a" * 12]["seconds"] == 1.23 and 1e7 < found["a" * 12]["peak_bytes"] < 1e12
    assert found["c"] == {"seconds": 2.0} and "b" * 12 not in found
    assert RunLog.took(tmp_path / "logs") == {"a" * 12: 1.23, "c": 2.0}
    assert RunLog.took(tmp_path / "logs", {"c", "b" * 12}) == {"c": 2.0}
