"""Charts as Vega-Lite specifications, each with the table of its numbers. Colours are variables of the page's style, so
that a chart follows light, dark and print without being drawn again."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dmtl_cli.report.blocks import Chart, Mark, Table, number, share
from dmtl_cli.report.style import STYLES

Values = Sequence[float | None]
_SIZE = {"width": "container", "autosize": {"type": "fit", "contains": "padding"}}
_SHORT, _TALL = 130, 210


def trend(
    title: str,
    days: Sequence[dt.date],
    series: Mapping[str, Values],
    *,
    limits: Sequence[tuple[float | None, float | None] | None] = (),
    rule: float | None = None,
    show: Callable[[float | None], str] = number,
) -> Chart | None:
    """A number by day, of one or of several models; the band is what a gate lets pass. None where no day has it.

    Args:
        series: by model of STYLES, or by any one name, a value a day.
        limits: of each day, None where it was not judged.
        rule: a value that is right, as 1 of PCOC.
    """
    there = {name: values for name, values in series.items() if any(v is not None for v in values)}
    if not there:
        return None
    known = [v for values in there.values() for v in values if v is not None]
    most = 1.0 if show is share else math.inf
    low, high = _domain([*known, *([] if rule is None else [rule])], [x for pair in limits if pair for x in pair], most)
    single = not there.keys() & STYLES.keys()
    layers = []
    if any(limits):
        layers += [_band(days, limits, low, high)]
    if rule is not None:
        mark = {"type": "rule", "color": "var(--muted)", "strokeDash": [3, 3]}
        layers.append(
            {
                "mark": mark,
                "data": {"values": [{"right": rule}]},
                "encoding": {"y": {"field": "right", "type": "quantitative"}},
            }
        )
    rows, lines = _lines(days, there, single=single)
    layers += lines
    spec = _spec(layers, _SHORT) | {"data": {"values": rows}}
    _share_scale(spec, low, high, show)
    said = f"{title} by day, {days[0]} to {days[-1]}; {_newest(there, show)}"
    table = _trend_table(days, there, limits, show)
    value, legend = (_last(next(iter(there.values())), show), []) if single else ("", _legend(there))
    return Chart(title, spec, said, table, value, legend)


def _newest(series: Mapping[str, Values], show: Callable[[float | None], str]) -> str:
    return "; ".join(f"{_label(name)} {_last(values, show)}" for name, values in series.items())


def _last(values: Values, show: Callable[[float | None], str]) -> str:
    return show(next((v for v in reversed(values) if v is not None), None))


def _lines(
    days: Sequence[dt.date], series: Mapping[str, Values], *, single: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(the rows, the layers that draw them)."""
    rows = [
        {"day": str(day), "value": value if isinstance(value, int) else float(f"{value:.6g}")}
        | ({} if single else {"model": _label(name)})
        | ({"newest": True} if day == days[-1] else {})
        for name, values in series.items()
        for day, value in zip(days, values, strict=True)
        if value is not None
    ]
    encoding: dict[str, Any] = {"x": _days(days), "y": {"field": "value", "type": "quantitative", "title": None}}
    tips = [{"field": "day", "type": "temporal", "format": "%Y-%m-%d"}, {"field": "value", "format": ".4~g"}]
    if single:
        line = {"type": "line", "color": "var(--blue)", "strokeWidth": 1.5, "clip": True}
        point = {"type": "point", "filled": True, "opacity": 1, "color": "var(--blue)", "clip": True}
        last = {"condition": {"test": "datum.newest", "value": 60}, "value": 16}
        marks = [({**line, "tooltip": False}, {}), (point, {"size": last, "tooltip": tips})]
    else:
        return rows, _of_models(encoding, _by_model(series), [{"field": "model"}, *tips], 34, clip=True)
    return rows, [{"mark": m, "encoding": {**encoding, **own}} for m, own in marks]


def _of_models(
    encoding: dict[str, Any], by_model: dict[str, Any], tips: list[dict[str, Any]], size: int, **more: Any
) -> list[dict[str, Any]]:
    """A line and its points for each model."""
    line = {"type": "line", "strokeWidth": 1.5} | more
    point = {"type": "point", "filled": True, "opacity": 1, "size": size} | more
    channels = {"color": by_model["color"], "strokeDash": by_model["strokeDash"]}
    told = {"color": by_model["color"], "shape": by_model["shape"], "tooltip": tips}
    return [{"mark": line, "encoding": encoding | channels}, {"mark": point, "encoding": encoding | told}]


def _by_model(series: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Colour, shape and dash of models: none is told by its colour alone."""
    styles = [STYLES.get(name, (name, "var(--blue)", "circle", [])) for name in series]
    names = [style[0] for style in styles]

    def channel(k: int) -> dict[str, Any]:
        return {
            "field": "model",
            "type": "nominal",
            "scale": {"domain": names, "range": [style[k] for style in styles]},
        }

    return {"color": channel(1), "shape": channel(2), "strokeDash": channel(3)}


def _band(
    days: Sequence[dt.date], limits: Sequence[tuple[float | None, float | None] | None], low: float, high: float
) -> dict[str, Any]:
    """What gates let pass, cut to what the chart shows."""
    rows: list[dict[str, Any]] = [
        {
            "day": str(day),
            "low": low if pair[0] is None else max(low, pair[0]),
            "high": high if pair[1] is None else min(high, pair[1]),
        }
        for day, pair in zip(days, limits, strict=True)
        if pair
    ]
    rows = [row for row in rows if row["high"] >= row["low"]]
    if len(rows) == 1:  # an area of one day has no width
        mark: dict[str, Any] = {"type": "bar", "color": "var(--band)", "size": 26}
    else:
        mark = {"type": "area", "color": "var(--band)", "line": False}
    y = {"y": {"field": "low", "type": "quantitative", "title": None}, "y2": {"field": "high"}}
    return {"data": {"values": rows}, "mark": mark, "encoding": {"x": _days(days), **y}}


def _days(days: Sequence[dt.date]) -> dict[str, Any]:
    pad = dt.timedelta(hours=12)
    ends = [str(dt.datetime.combine(day, dt.time()) + by) for day, by in ((days[0], -pad), (days[-1], pad))]
    ends = [end.replace(" ", "T") + "Z" for end in ends]
    shown = [str(day) for day in (days if len(days) <= 5 else days[:: -math.ceil(len(days) / 5)])]
    axis = {"format": "%-d %b", "values": shown, "labelOverlap": True, "title": None}
    return {"field": "day", "type": "temporal", "scale": {"type": "utc", "domain": ends}, "axis": axis}


def _domain(values: Sequence[float], limits: Sequence[float | None], most: float) -> tuple[float, float]:
    """From the least to the greatest, a tenth of the value at least, so that noise is drawn small; and a limit where it
    is not far away."""
    low, high = min(values), max(values)
    room = max(high - low, abs(high) * 0.1, 1e-9)
    spare = (room - (high - low)) / 2
    low, high = (low - spare if low < 0 or low > spare else low), high + spare
    least = 0.0 if low >= 0 else -math.inf
    known = [min(max(x, least), most) for x in limits if x is not None]
    near = [x for x in known if low - 3 * room <= x <= high + 3 * room]
    low, high = min([low, *near]), max([high, *near])
    room = high - low
    return (low - 0.12 * room if low < 0 or low - 0.12 * room > 0 else 0.0), high + 0.12 * room


def _share_scale(spec: dict[str, Any], low: float, high: float, show: Callable[[float | None], str]) -> None:
    """Gives the value axis of every layer the same ends, and few labels."""
    for layer in spec["layer"]:
        layer["encoding"]["y"] |= {
            "scale": {"domain": [low, high], "zero": False, "nice": False},
            "axis": {"tickCount": 4, "format": _format(low, high, show), "title": None},
        }


def _format(low: float, high: float, show: Callable[[float | None], str]) -> str:
    digits = max(0, 1 - math.floor(math.log10(max(high - low, 1e-9))))
    if show is share:
        return f".{max(0, digits - 2)}%"
    if high >= 10_000 or digits > 4:
        return ".3~s" if digits <= 4 else ".2~e"
    return f".{digits}~f"


def _trend_table(
    days: Sequence[dt.date],
    series: Mapping[str, Values],
    limits: Sequence[tuple[float | None, float | None] | None],
    show: Callable[[float | None], str],
) -> Table:
    head = ["day", *(_label(name) for name in series), *(["at least", "at most"] if any(limits) else [])]
    pairs = limits or [None] * len(days)
    rows = [
        [
            str(day),
            *(show(values[k]) for values in series.values()),
            *([show(x) for x in pairs[k] or (None, None)] if any(limits) else []),
        ]
        for k, day in enumerate(days)
    ]
    return Table(head, rows[::-1])


def reliability(title: str, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> Chart:
    """Observed over predicted rate of bins, beside the diagonal of a calibrated model, with two standard errors."""
    rows = _bins(curves)
    most = max([1e-6, *(max(row["predicted"], row["observed"]) for row in rows)]) * 1.08
    scale = {"domain": [0, most], "nice": False}
    diagonal = {
        "data": {"values": [{"predicted": 0, "observed": 0}, {"predicted": most, "observed": most}]},
        "mark": {"type": "line", "color": "var(--muted)", "strokeDash": [3, 3], "strokeWidth": 1},
    }
    by_model = _by_model(curves)
    x = {
        "field": "predicted",
        "type": "quantitative",
        "scale": scale,
        "axis": {"title": "predicted", "grid": True, "tickCount": 4},
    }
    y = {"field": "observed", "type": "quantitative", "scale": scale, "axis": {"title": "observed", "tickCount": 4}}
    both = {"x": x, "y": y}
    tips = [{"field": "model"}, *({"field": f, "format": ".4~g"} for f in ("predicted", "observed")), {"field": "rows"}]
    data = {"values": rows}
    errors = {"data": data, "mark": {"type": "rule", "opacity": 0.45, "clip": True}}
    layers = [
        diagonal | {"encoding": both},
        errors
        | {"encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": by_model["color"]}},
        *({"data": data} | layer for layer in _of_models(both, by_model, tips, 42)),
    ]
    table = Table(
        ["model", "predicted", "observed", "rows"],
        [[r["model"], number(r["predicted"], 4), number(r["observed"], 4), r["rows"]] for r in rows],
    )
    said = f"{title}: observed over predicted rate in tenths of the rows, {', '.join(_label(n) for n in curves)}"
    return Chart(title, _spec(layers, _TALL + 30), said, table, legend=_legend(curves))


def _bins(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> list[dict[str, Any]]:
    """A row for each bin, with its rate two standard errors lower and higher."""
    rows: list[dict[str, Any]] = []
    for name, bins in curves.items():
        for b in bins:
            error = 2 * math.sqrt(max(b["observed"] * (1 - b["observed"]), 1e-9) / max(b["rows"], 1))
            ends = {"low": max(0.0, b["observed"] - error), "high": b["observed"] + error}
            rows.append({"model": _label(name), **{k: b[k] for k in ("predicted", "observed", "rows")}, **ends})
    return rows


def histogram(title: str, found: Mapping[str, Any], words: tuple[str, str]) -> Chart:
    """How scores are spread over rows with and without the label, each as shares of its own rows.

    Args:
        words: what rows with and without it are called.
    """
    rows = _heights(found, words)
    spec = _spec(_spread(found, words), _SHORT + 30) | {"data": {"values": rows}}
    first = {row["start"]: row for row in rows if row["rows"] == words[1]}
    table = Table(
        ["log-odds from", "to", *words],
        [
            [number(r["start"]), number(r["end"]), r["count"], first[r["start"]]["count"]]
            for r in rows
            if r["rows"] == words[0]
        ],
    )
    legend = [Mark(words[1], "var(--soft)", "box", ()), Mark(words[0], "var(--red)", "", ())]
    return Chart(title, spec, f"{title}: scores of rows {words[0]} and {words[1]}", table, legend=legend)


def _spread(found: Mapping[str, Any], words: tuple[str, str]) -> list[dict[str, Any]]:
    """Bars of the rows without the label behind the outline of those with it."""
    names = [words[1], words[0]]
    colour = {"field": "rows", "type": "nominal", "scale": {"domain": names, "range": ["var(--soft)", "var(--red)"]}}
    scale = {"nice": False, "zero": False, "domain": [found["from"], found["to"]]}
    axis = {"title": "score, log-odds", "tickCount": 5, "grid": False}
    x = {"field": "start", "type": "quantitative", "scale": scale, "axis": axis}
    shares = {"title": None, "format": ".0%", "tickCount": 3}
    y = {"field": "share", "type": "quantitative", "axis": shares, "stack": None}
    tips = [{"field": "rows"}, {"field": "share", "format": ".1%"}, {"field": "count"}]
    binned = {"x": {**x, "bin": {"binned": True}}, "x2": {"field": "end"}, "y": y, "color": colour, "tooltip": tips}
    filled = {
        "transform": [{"filter": f"datum.rows === {_quoted(words[1])}"}],
        "mark": {"type": "bar", "opacity": 0.55, "binSpacing": 0},
        "encoding": binned,
    }
    outline = {
        "transform": [{"filter": f"datum.rows === {_quoted(words[0])}"}],
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
        "encoding": {"x": x, "y": y, "color": colour},
    }
    return [filled, outline]


def _heights(found: Mapping[str, Any], words: tuple[str, str]) -> list[dict[str, Any]]:
    """A row for each bin of the rows with and without the label, and its share of these."""
    rows = []
    bins = len(found["positive"])
    step = (found["to"] - found["from"]) / bins
    for name, word in zip(("negative", "positive"), reversed(words), strict=True):
        total = max(1, sum(found[name]))
        for k, count in enumerate(found[name]):
            start = found["from"] + k * step
            rows.append({"rows": word, "start": start, "end": start + step, "share": count / total, "count": count})
    return rows


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def groups(title: str, labels: Sequence[str], shares: Mapping[str, Sequence[float]], axis: str) -> Chart:
    """Shares by group, a line for each model: groups have an order."""
    rows = [
        {"model": _label(name), "group": label, "share": value}
        for name, values in shares.items()
        for label, value in zip(labels, values, strict=True)
    ]
    by_model = _by_model(shares)
    x = {
        "field": "group",
        "type": "ordinal",
        "sort": list(labels),
        "axis": {"title": axis, "labelAngle": 0, "labelOverlap": "greedy"},
    }
    y = {"field": "share", "type": "quantitative", "axis": {"title": None, "format": ".0%", "tickCount": 4}}
    tips = [{"field": "model"}, {"field": "group"}, {"field": "share", "format": ".1%"}]
    spec = _spec(_of_models({"x": x, "y": y}, by_model, tips, 46), _TALL) | {"data": {"values": rows}}
    table = Table(
        [axis, *(_label(name) for name in shares)],
        [[label, *(f"{values[k]:.1%}" for values in shares.values())] for k, label in enumerate(labels)],
    )
    return Chart(title, spec, f"{title}, by {axis}", table, legend=_legend(shares), wide=True)


def bars(
    title: str, values: Mapping[str, float], show: Callable[[float | None], str], *, most: float | None = None
) -> Chart:
    """A bar for each name, with its number at its end."""
    rows = [{"name": name, "value": value, "said": show(value)} for name, value in values.items()]
    top = (most or max([*values.values(), 1e-9])) * 1.45
    y = {
        "field": "name",
        "type": "nominal",
        "sort": list(values),
        "axis": {"title": None, "labelColor": "var(--ink)", "labelLimit": 150},
    }
    x = {"field": "value", "type": "quantitative", "scale": {"domain": [0, top], "nice": False}, "axis": None}
    text = {"type": "text", "align": "left", "dx": 5, "color": "var(--ink)", "fontSize": 11}
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "bar", "color": "var(--blue)", "height": {"band": 0.6}}, "encoding": {"x": x, "y": y}},
        {"mark": text, "encoding": {"x": x, "y": y, "text": {"field": "said", "type": "nominal"}}},
    ]
    spec = _spec(layers, 22 * len(rows) + 8) | {"data": {"values": rows}}
    table = Table(["", title], [[name, show(value)] for name, value in values.items()])
    return Chart(title, spec, f"{title}: " + ", ".join(f"{r['name']} {r['said']}" for r in rows), table)


def beside(title: str, labels: Sequence[str], now: Sequence[float], then: Sequence[float], value: str) -> Chart:
    """A bar for each group's share of the day, and a line across it for that of the days before."""
    names = ("this day", "days before")
    shares = list(zip(labels, now, then, strict=True))
    rows = [{"group": label, "now": a, "then": b} for label, a, b in shares]
    tips = [
        {"field": "group"},
        *({"field": f, "format": ".1%", "title": t} for f, t in zip(("now", "then"), names, strict=True)),
    ]
    axis: dict[str, Any] = {"title": None, "labelColor": "var(--ink)", "labelLimit": 130}
    y = {"field": "group", "type": "nominal", "sort": list(labels), "axis": axis}
    x: dict[str, Any] = {"type": "quantitative", "axis": {"title": None, "format": ".0%", "tickCount": 4, "grid": True}}
    bar = {"type": "bar", "color": "var(--blue)", "opacity": 0.75, "height": {"band": 0.62}}
    tick = {"type": "tick", "color": "var(--red)", "thickness": 2, "bandSize": 13}
    marks: list[tuple[str, dict[str, Any]]] = [("now", bar), ("then", tick)]
    layers = [{"mark": mark, "encoding": {"x": {**x, "field": f}, "y": y, "tooltip": tips}} for f, mark in marks]
    spec = _spec(layers, 17 * len(rows) + 34) | {"data": {"values": rows}}
    table = Table(["", *names], [[label, share(a), share(b)] for label, a, b in shares])
    legend = [Mark(names[0], "var(--blue)", "box", ()), Mark(names[1], "var(--red)", "", ())]
    return Chart(title, spec, f"{title}: shares of events on this day and before", table, f"PSI {value}", legend)


def dots(title: str, groups: Mapping[str, Sequence[tuple[float, bool]]], axis: str) -> Chart:
    """Numbers of each group on a line; those that were taken are filled."""
    rows: list[dict[str, Any]] = [
        {"group": name, "value": value, "taken": "taken" if taken else "tried"}
        for name, pairs in groups.items()
        for value, taken in pairs
    ]
    y = {
        "field": "group",
        "type": "nominal",
        "sort": list(groups),
        "axis": {"title": None, "labelColor": "var(--ink)", "grid": True},
    }
    x = {
        "field": "value",
        "type": "quantitative",
        "scale": {"zero": False},
        "axis": {"title": axis, "tickCount": 5, "grid": False},
    }
    kinds = ["taken", "tried"]
    colour = {"field": "taken", "type": "nominal", "scale": {"domain": kinds, "range": ["var(--red)", "var(--soft)"]}}
    shape = {"field": "taken", "type": "nominal", "scale": {"domain": kinds, "range": ["diamond", "circle"]}}
    tips = [{"field": "group"}, {"field": "value", "format": ".5~g"}, {"field": "taken"}]
    point = {"type": "point", "filled": True, "opacity": 0.9, "size": 70}
    layers = [{"mark": point, "encoding": {"x": x, "y": y, "color": colour, "shape": shape, "tooltip": tips}}]
    spec = _spec(layers, 28 * len(groups) + 44) | {"data": {"values": rows}}
    table = Table(["round", axis, ""], [[r["group"], number(r["value"], 5), r["taken"]] for r in rows])
    legend = [Mark("taken", "var(--red)", "diamond", None), Mark("tried", "var(--soft)", "circle", None)]
    return Chart(title, spec, f"{title}: {axis} of {len(rows)} trials", table, legend=legend)


def _legend(series: Sequence[str] | Mapping[str, Any]) -> list[Mark]:
    return [Mark(*STYLES.get(name, (name, "var(--blue)", "circle", []))) for name in series]


def _label(name: str) -> str:
    return STYLES[name][0] if name in STYLES else name


def _spec(layers: list[dict[str, Any]], height: int) -> dict[str, Any]:
    return {**_SIZE, "height": height, "layer": layers}
