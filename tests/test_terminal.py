"""What a person sees: bars that move, a line of numbers a stage, colours where they are wanted, help in groups."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from chains import Chain, day

from dmtl_cli.cli import colours, said
from dmtl_cli.cli.main import app
from dmtl_cli.cli.options import PANELS
from dmtl_cli.config.commands import CONFIG
from dmtl_cli.evaluate.metrics import mean_error, retrieval_of_each
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.progress import POINTS, RunLog
from dmtl_cli.runs.run import Result
from dmtl_cli.teacher.auc import auc_error

GROUP: Any = typer.main.get_command(app)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "CLICOLOR"):
        monkeypatch.delenv(name, raising=False)
    return made


def a_manifest(stage: str, **fields: Any) -> Manifest:
    whole = (
        dict.fromkeys(Manifest.__dataclass_fields__, None)
        | {key: {} for key in ("config", "rows", "metrics", "facts")}
        | {"gates": []}
    )
    return Manifest(**{**whole, "stage": stage, "day": day(2), "run_id": "db81e780aaaa", **fields})


# -- a line a stage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "fields", "expected"),
    [
        (
            "teacher",
            {
                "metrics": {"held_out.ctr.auc": 0.7712, "held_out.cvr.auc": 0.743, "held_out.like.auc": 1.0},
                "gates": [{"name": "teacher.pcoc.ctr", "value": 1.02}],
                "rows": {"log": 300_000},
            },
            "teacher    2026-01-02  AUC click .771 read .743 like 1.000  PCOC 1.02  300,000 rows in 24 s  db81e78",
        ),
        (
            "teacher",
            {"metrics": {"loss": 0.5}, "rows": {"log": 9}},
            "teacher    2026-01-02  loss 0.500  9 rows in 24 s  db81e78",
        ),
        (
            "scores",
            {
                "facts": {"teacher": {"day": "2026-01-01"}},
                "rows": {"exposed": 2992, "negative": 5984},
                "gates": [{"name": "scores.p50.ctr", "value": 0.0}],
            },
            "scores     2026-01-02  by teacher 2026-01-01  median P click .500  2,992 shown, 5,984 drawn"
            "  24 s  db81e78",
        ),
        (
            "student",
            {"facts": {"teacher": None}, "metrics": {"loss": 0.25}, "rows": {"learned": 7}},
            "student    2026-01-02  taught by labels  loss 0.250  7 rows in 24 s  db81e78",
        ),
        (
            "export",
            {
                "rows": {"items": 200, "users": 3000},
                "facts": {"kappa": 0.7},
                "gates": [{"name": "export.recall.read", "value": 0.5}],
            },
            "export     2026-01-02  recall@50 of its own day read .500  kappa 0.7  200 items, 3,000 users"
            "  24 s  db81e78",
        ),
        (
            "evaluation",
            {
                "metrics": {
                    "student.read.recall@50": 0.4,
                    "popularity.read.recall@50": 0.3,
                    "exposure_rate.read.recall@50": 0.31,
                }
                | {"teacher.ctr.auc": 0.66},
                "rows": {"events": 10},
            },
            "evaluation 2026-01-02  recall@50 of reads: served .400, best list .310 (exposure_rate)"
            "  teacher AUC click .660  10 rows in 24 s  db81e78",
        ),
        (
            "evaluation",
            {
                "metrics": {
                    "student.read.recall@50": 0.4,
                    "student.read.recall@50.se": 0.02,
                    "popularity.read.recall@50": 0.3,
                    "popularity.read.recall@50.ahead_of_student": -0.1,
                    "popularity.read.recall@50.ahead_of_student.se": 0.03,
                    "student.click.recall@50": 0.2,
                    "student.click.recall@50.se": 0.01,
                    "popularity.click.recall@50": 0.25,
                    "read_popularity.click.recall@50": 0.24,
                },
                "rows": {"events": 10, "users": 3, "active_users": 9},
            },
            "evaluation 2026-01-02  recall@50 of reads: served .400, best list .300 (popularity): better by .100 ±.030"
            "; of clicks, not the aim: served .200, best list .250 (popularity)"
            "; a sample of 3 of 9 users (evaluate.share)  10 rows in 24 s  db81e78",
        ),
    ],
)
def test_a_stage_says_what_a_person_can_judge(stage: str, fields: dict[str, Any], expected: str) -> None:
    assert said.line(a_manifest(stage, **fields), 24.2) == expected


@pytest.mark.parametrize("warnings", [0, 1, 2])
def test_the_line_of_a_day_has_its_warnings_below_it(warnings: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the day alone, the same one of two scores once."""
    told = [f"doubt {k}: dmtl tune {CONFIG} --day {day(2)}" for k in range(warnings)]
    stages = [("evaluation", told[:1]), ("scores", told[1:]), ("scores", told[1:]), ("export", [])]
    manifests = {f"{k}": a_manifest(s, facts={"warnings": w} if w else {}) for k, (s, w) in enumerate(stages)}
    made = [Result(s, str(day(2)), "", "abcdef12", f"{k}", {}, {}, [], False) for k, (s, _) in enumerate(stages)]
    made.append(Result("tune", str(day(1)), "", "abcdef12", "no day of this line", {}, {}, [], False))
    monkeypatch.setattr(Manifest, "read", lambda path: manifests[path.parent.name])
    lines = said.day_line(day(2), made, Path("my log.yaml")).split("\n")
    assert lines[0].startswith(str(day(2))) and "export abcdef1" in lines[0]
    again = f"dmtl tune --config 'my log.yaml' --day {day(2)}"
    assert lines[1:] == [f"  warning: doubt {k}: {again}" for k in range(warnings)]


def test_the_line_of_a_day_has_the_aim_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = {f"{who}.{label}.recall@50": 0.4 for who in ("student", "popularity") for label in ("read", "click")}
    monkeypatch.setattr(Manifest, "read", lambda _: a_manifest("evaluation", metrics=metrics))
    made = [Result("evaluation", str(day(2)), "", "abcdef12", "r", {}, {}, [], False)]
    told = said.day_line(day(2), made, Path("x.yaml"))
    assert "recall@50 of reads: served .400, best list .400 (popularity)" in told and "click" not in told


def test_a_good_click_of_a_column_is_not_called_a_read() -> None:
    """It may be a purchase."""
    metrics = {f"{who}.{label}.recall@50": 0.4 for who in ("student", "popularity") for label in ("read", "click")}
    bought = {"data": {"events": {"conversion": "bought"}}}
    line = said.line(a_manifest("evaluation", metrics=metrics | {"student.read.ceiling": 0.45}, config=bought))
    assert "recall@50 of good clicks: served .400, best list .400 (popularity); at most .450" in line
    assert "as what else was a good click is not in the export; of clicks, not the aim" in line and "read" not in line


@pytest.mark.parametrize(
    ("stage", "fields", "expected"),
    [
        (
            "teacher",
            {"metrics": {"held_out.ctr.auc": 0.7712, "held_out.cvr.auc": 0.743, "held_out.like.auc": 1.0}},
            "AUC click .771 {} .743 like 1.000",
        ),
        (
            "scores",
            {"gates": [{"name": f"scores.p50.{task}", "value": 0.0} for task in ("ctr", "cvr")]},
            "median P click .500 {} .500",
        ),
        (
            "export",
            {"gates": [{"name": f"export.recall.{label}", "value": 0.5} for label in ("click", "read")]},
            "recall@50 of its own day click .500 {} .500",
        ),
        (
            "evaluation",
            {"metrics": {"teacher.ctr.auc": 0.66, "teacher.cvr.auc": 0.7}},
            "teacher AUC click .660 {} .700",
        ),
    ],
)
def test_each_stage_has_the_words_of_its_log(stage: str, fields: dict[str, Any], expected: str) -> None:
    for role, word in (("conversion", "good click"), ("duration", "read")):
        line = said.line(a_manifest(stage, config={"data": {"events": {role: "x"}}}, **fields))
        assert expected.format(word) in line


@pytest.mark.parametrize(("most", "told"), [(0.45, True), (0.95, False), (None, False)])
def test_what_could_not_be_found_is_said(most: float | None, told: bool) -> None:
    """As on a day whose items were withdrawn since, or are new: no list of what is served finds them either."""
    metrics = {"student.click.recall@50": 0.4, "popularity.click.recall@50": 0.4}
    metrics |= {"student.click.ceiling": most} if most is not None else {}
    line = said.line(a_manifest("evaluation", metrics=metrics))
    assert ("(popularity); at most .450, as what else was clicked is not in the export" in line) == told, line


def an_evaluation(by: float, error: float | None = 0.03, k: int = 50, label: str = "read") -> Manifest:
    """Of a list that has .3, in a day on which so much more is served."""
    at = f"{label}.recall@{k}"
    list_ = {f"popularity.{at}": 0.3, f"popularity.{at}.ahead_of_student": -by}
    errors = {} if error is None else {f"popularity.{at}.ahead_of_student.se": error}
    return a_manifest(
        "evaluation", metrics={f"student.{at}": 0.3 + by} | list_ | errors, config={"evaluate": {"topk": [k]}}
    )


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([], None),
        ([an_evaluation(0.1)], None),
        ([an_evaluation(0.1), an_evaluation(0.1, error=None)], None),
        ([an_evaluation(0.1), an_evaluation(0.1, k=20)], None),
        (
            [an_evaluation(0.1), an_evaluation(0.1)],  # .03 / sqrt(2)
            "2 days: recall@50 of reads: served .400, best list of each day .300: better by .100 ±.021",
        ),
        (
            [an_evaluation(0.1), an_evaluation(-0.1), an_evaluation(0.03)],  # days differ by more than users do
            "3 days: recall@50 of reads: served .310, best list of each day .300: no sure difference, +.010 ±.059",
        ),
        (
            [an_evaluation(-0.1, 0.01, 20, "click")] * 4,
            "4 days: recall@20 of clicks: served .200, best list of each day .300: worse by .100 ±.005",
        ),
    ],
)
def test_several_days_end_on_what_they_say_together(
    days: list[Manifest], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [Result("evaluation", str(day(2)), "", "abcdef12", f"{k}", {}, {}, [], False) for k in range(len(days))]
    made.append(Result("export", str(day(2)), "", "abcdef12", "none", {}, {}, [], False))
    monkeypatch.setattr(Manifest, "read", lambda path: days[int(path.parent.name)])
    assert said.days_line(made) == expected


@pytest.mark.parametrize(
    ("days", "told"),
    [
        ([(0, 11.0), (0, 11.0)], "0 times, 22 by chance"),
        ([(2, 31.0), (1, 9.4)], "3 times, 40 by chance"),
        ([(1, 31.0)], "once, 31 by chance"),
        ([(2, 11.0), (1, 11.0)], None),  # more than a tenth of it
        ([(0, 19.9)], None),  # which may be chance
        ([], None),
    ],
)
def test_clicks_that_do_not_come_again_are_told_of_all_days(
    days: list[tuple[int, float]], told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ms = [
        a_manifest("evaluation", metrics={"repeats.found": float(a), "repeats.by_chance": b}, rows={}) for a, b in days
    ]
    made = [Result("evaluation", str(day(2)), "", "abcdef12", f"{k}", {}, {}, [], False) for k in range(len(ms))]
    monkeypatch.setattr(Manifest, "read", lambda path: ms[int(path.parent.name)])
    for seen_days in (1, 7):
        line = said.repeats_line(made, seen_days)
        assert line is None if told is None else line and f"they clicked again {told}: ask with exclude_seen" in line
        assert line is None or ("export.seen_days" in line) == (seen_days == 1)
    if ms:
        ms[0] = replace(ms[0], rows={"excluded": 3})  # left out already
        assert said.repeats_line(made, 1) is None


def test_a_warning_of_several_days_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again where a number of it is another one by far; whatever ids it names, and which day is in its command."""
    told: list[str] = []
    monkeypatch.setattr(Manifest, "read", lambda _: a_manifest("export", facts={"warnings": told}))
    earlier: said.Earlier = {}
    lines = []
    for n, many, k in ((1, 11, 0), (2, 12, 2), (3, 40, 4), (4, 39, 6), (5, 1_200, 7)):
        few = f"an epoch is {many} steps: dmtl tune {CONFIG} --day {day(n)}"
        told[:] = [f"{many:,} of 420 items are not listed (such as i{k}, i{k + 1})", *([few] if n == 2 else [])]
        made = [Result("export", str(day(n)), "", "abcdef12", "r", {}, {}, [], False)]
        lines.append(said.day_line(day(n), made, Path("x.yaml"), earlier).split("\n"))
    assert [len(of_day) - 1 for of_day in lines] == [1, 1, 1, 0, 1]
    assert [of_day[0].endswith("1 warning as before") for of_day in lines] == [False, True, False, True, False]
    assert lines[1][1] == f"  warning: an epoch is 12 steps: dmtl tune --config x.yaml --day {day(2)}"


def test_a_sample_of_users_names_the_key_that_bounds_it() -> None:
    config = {"evaluate": {"max_users": 3}}
    m = a_manifest(
        "evaluation", metrics={"student.read.recall@50": 0.4}, rows={"users": 3, "active_users": 9}, config=config
    )
    assert "; a sample of 3 of 9 users (evaluate.max_users)  " in said.line(m)
    m = replace(m, rows=dict(m.rows) | {"excluded": 5})
    assert "(evaluate.max_users); without what they had seen (evaluate.exclude_seen)  " in said.line(m)


def test_an_up_to_date_stage_says_so(terminal: Terminal, tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    hear = said.telling(log)
    with contextlib.redirect_stderr(terminal):
        hear(tmp_path, a_manifest("teacher", metrics={"loss": 0.5}), None)
    assert terminal.getvalue() == "teacher    2026-01-02  loss 0.500  up to date  db81e78\n"
    assert json.loads((tmp_path / "log.jsonl").read_text())["text"] == terminal.getvalue().rstrip()


def test_status_says_the_newest_days(tmp_path: Path) -> None:
    chain = Chain(tmp_path, 5)
    newest = chain.status()["newest"]
    assert sorted({each["day"] for each in newest}) == [str(day(n)) for n in (3, 4, 5)]
    assert [each["stage"] for each in newest if each["day"] == str(day(5))].count("scores") == 2
    text = chain.project.call("status").out
    shown = {(each["day"], each["stage"]) for each in newest if each["line"] in text}
    assert {stage for d, stage in shown if d == str(day(5))} == {each["stage"] for each in newest}
    assert {(d, stage) for d, stage in shown if d != str(day(5))} == {(str(day(n)), "evaluation") for n in (3, 4)}
    assert f"by teacher {day(4)}" in text and "\x1b" not in text


# -- colours -----------------------------------------------------------------------------------------------------------


def test_states_have_colours(terminal: Terminal) -> None:
    text = "2026-01-01  published  refused  stale  missing\nteacher    2026-01-02  loss 1  db81e78"
    painted = colours.painted(text, terminal)
    assert re.sub(r"\x1b\[\d+m", "", painted) == text
    assert {word for _, word in re.findall(r"\x1b\[(\d+)m(.*?)\x1b\[0m", painted)} == {
        "published", "refused", "stale", "missing", "teacher", "db81e78",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")])
def test_who_wants_no_colours_gets_none(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert colours.painted("refused", terminal) != "refused"
    monkeypatch.setenv(name, value)
    assert colours.painted("refused", terminal) == "refused"


def test_files_and_cron_get_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert colours.painted("refused", io.StringIO()) == "refused"


# -- bars --------------------------------------------------------------------------------------------------------------


def on_a_terminal(code: str) -> str:
    """What a program prints on a real terminal of 40 rows and 100 columns."""
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    running = subprocess.Popen([sys.executable, "-c", code], stdout=secondary, stderr=secondary, close_fds=True)
    os.close(secondary)
    out = b""
    while True:
        try:
            part = os.read(primary, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        out += part
    os.close(primary)
    assert running.wait() == 0, out
    return out.decode()


def test_a_bar_ticks_while_a_step_is_long() -> None:
    shown = on_a_terminal(
        "import time\n"
        "import dmtl_cli.runs.progress as progress\n"
        "progress.TICK = .05\n"
        "log = progress.RunLog()\n"
        "with log.at('2/9 click_only'), log.progress('export', 3, 'step') as bar:\n"
        "    bar.next('towers')\n"
        "    time.sleep(.4)\n"
        "    bar.next('vectors')\n"
        "with log.progress('reading'):\n"
        "    time.sleep(.2)\n"
        "log.say('done')\n"
    )
    assert shown.count("towers]") >= 5, "drawn again and again"
    assert "2/9 click_only: export:  33%" in shown and "1/3" in shown and "vectors]" in shown
    assert "reading: 00:00" in shown and shown.rstrip().endswith("done")


def test_a_table_is_as_wide_as_a_terminal() -> None:
    row = "| a model | " + " | ".join(["0.123 ±0.045"] * 9) + " |"
    shown = on_a_terminal(f"from dmtl_cli.cli.fitted import for_terminal\nprint(for_terminal({row!r}))").splitlines()
    assert len(shown) == 3 and max(map(len, shown)) <= 100 and "|" not in "".join(shown)


def test_nothing_is_shown_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog()
    with log.progress("export", 2, "step") as bar:
        bar.next("towers")
        bar.next("vectors")
    log.say("done")
    assert capsys.readouterr() == ("", "") and bar.rows == 1


def test_losses_are_kept_without_being_read() -> None:
    """At most POINTS of a training, and only where somebody wants them."""

    class Unread:
        def __float__(self) -> float:
            raise AssertionError("reading it waits for the device")

    log = RunLog(quiet=True)
    with log.progress("teacher", 10_000) as bar:
        for _ in range(1000):
            bar.step(10, Unread())
    assert log.losses is None
    log.losses = {}
    with log.progress("teacher", 10_000) as bar:
        for _ in range(1000):
            bar.step(10, Unread())
    rows = [point.rows for point in log.losses["teacher"]]
    assert len(rows) in (POINTS, POINTS + 1) and rows == sorted(rows) and rows[0] == 10 and rows[-1] == 10_000


# -- errors over users -------------------------------------------------------------------------------------------------


def test_the_error_of_recall_is_that_of_a_mean_over_users() -> None:
    rng = np.random.default_rng(1)
    indptr = np.array([0, 2, 2, 5, 6, 10])
    items, seconds = rng.permutation(20)[:10], rng.random(10)
    top = np.array([rng.permutation(20)[:8] for _ in range(5)])
    for weight in (None, seconds):
        shares = []
        for user in range(5):
            mine = range(indptr[user], indptr[user + 1])
            w = [1.0 if weight is None else weight[k] for k in mine]
            if sum(w):
                shares.append(sum(x for x, k in zip(w, mine, strict=True) if items[k] in top[user]) / sum(w))
        name = "recall@8" if weight is None else "time_recall@8"
        found = retrieval_of_each(top, (indptr, items), weight, ks=(8,))[name]
        assert np.isnan(found[1]) and len(shares) == 4, "who wants nothing has none"
        assert mean_error(found) == pytest.approx(np.std(shares, ddof=1) / len(shares) ** 0.5)
    assert mean_error(np.array([0.5, np.nan])) is None
    assert mean_error(np.zeros(4)) == 0.25, "four who found nothing are not sure of the fifth"
    assert mean_error(np.full(50, 0.2)) == 0.02, "nor are fifty who found a fifth, which is no sum of halves"


def test_the_error_of_recall_is_the_spread_over_samples_of_users() -> None:
    """Of 2,000 samples of 80 users from a day of many, and of bootstraps of one, the mean spreads as the error says."""
    rng = np.random.default_rng(3)
    day = np.where(rng.random(50_000) < 0.3, np.nan, rng.beta(0.3, 2, 50_000))
    samples = rng.choice(day, (2_000, 80))
    told = [mean_error(sample) for sample in samples]
    assert np.mean(told) == pytest.approx(np.nanmean(samples, 1).std(), rel=0.05)
    one = samples[0]
    again = np.nanmean(rng.choice(one, (4_000, 80)), 1)
    assert mean_error(one) == pytest.approx(again.std(), rel=0.1)


def test_the_error_of_auc_is_the_spread_over_logs() -> None:
    """Of 400 logs of 60 users the AUC spreads as the error that each of them tells."""
    rng = np.random.default_rng(2)
    found, told = [], []
    for _ in range(400):
        user = np.repeat(np.arange(60), 4)
        taste = rng.normal(size=60)[user]
        y = rng.random(240) < 1 / (1 + np.exp(-taste))
        score = taste * rng.normal(1, 0.5, 60)[user] + rng.normal(size=240)
        above = (score[y][:, None] > score[~y]).mean()
        found.append(above)
        told.append(auc_error(y, score, user, np.ones(240)))
    assert np.mean(told) == pytest.approx(np.std(found), rel=0.1)


# -- help --------------------------------------------------------------------------------------------------------------


def shown(*words: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dmtl_cli", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80", **environment},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_help_has_every_command_whole_in_its_group() -> None:
    text = shown("--help").replace("[ARGS]...", "")
    assert "..." not in text and "…" not in text and "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    panels = [found[1] for line in text.splitlines() if (found := re.match(r"╭─ (.*?) ─+╮", line))]
    assert panels == ["Options", *(p for p in PANELS if any(c.rich_help_panel == p for c in GROUP.commands.values()))]
    one = " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())
    for name, command in GROUP.commands.items():
        assert f"{name} {' '.join(command.help.splitlines()[0].split())}" in one, name


@pytest.mark.parametrize("name", list(GROUP.commands))
def test_every_command_has_an_example_that_it_understands(name: str) -> None:
    command = GROUP.commands[name]
    assert command.rich_help_panel in PANELS
    program, called, *words = command.epilog.removeprefix("Example:").split()
    assert (program, called) == ("dmtl", name)
    with command.make_context(name, words) as context:
        assert all(context.params.get(p.name) is not None for p in command.params if p.required)


def test_completion_knows_commands_and_ends_well() -> None:
    found = shown(_DMTL_COMPLETE="complete_bash", COMP_WORDS="dmtl train", COMP_CWORD="1")
    assert found.split() == ["train-teacher", "train-student", "train-joint"] or {*found.split()} == {
        "train-teacher", "train-student", "train-joint",
    }  # fmt: skip


def test_a_signal_ends_the_module_as_it_ends_dmtl(tmp_path: Path) -> None:
    """`python -m dmtl_cli` is the program: its handlers are there from the first import on."""
    code = "import sys; sys.argv[0] = '/x/dmtl_cli/__main__.py'\n"
    code += "from dmtl_cli.cli import signals\nprint(signals.is_program())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n"
