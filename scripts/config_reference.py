"""Prints docs/config.md: every key of a config with its type, default and meaning.

    python scripts/config_reference.py > docs/config.md

All of it comes from dmtl_cli/config/: types and defaults from the models, meanings from the text under a field, and
what is refused from the messages of the checks. `MORE` says what the models leave to a key's name.
"""

from __future__ import annotations

import ast
import inspect
import types
import typing
from pathlib import Path
from typing import Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, StringConstraints
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dmtl_cli.config.gates import LIMITS
from dmtl_cli.config.schema import Config
from dmtl_cli.config.section import Section

INTRO = """\
# Config reference

Made by `scripts/config_reference.py` from `dmtl_cli/config/`; `tests/test_docs.py` fails when it is out of date.

A config is YAML. A heading is the place of its keys, so the key `w_kd` below `student.distill` is
`--set student.distill.w_kd=...` on the command line; a number in the path is a place in a list
(`--set features.0.min_count=5`). Unknown keys, wrong types and contradictions are refused with file and line (exit 78).
Only `true` and `false` are booleans; a date stays text. Paths are relative to the current folder.
"""

MORE = {
    "Config.workspace": "folder of everything that is published",
    "Config.seed": "of all that is drawn: samples, negatives, first weights, sampled users",
    "Config.threads": "of torch; `--threads` overrides it",
    "Config.device": "`auto`: cuda where torch sees a GPU; `--device` overrides it",
    "Config.data": "the log",
    "Config.features": "what the models read; `auto`, alone or among them: ids, by profiles histories, counters, rates",
    "Config.labels": "what a long read is",
    "Config.profile": "what is known of users and items when a day ends",
    "Config.teacher": "the MMoE",
    "Config.scores": "what a dump holds beside the exposed pairs",
    "Config.student": "the two towers",
    "Config.export": "how item vectors are stored and searched",
    "Config.evaluate": "how much is measured",
    "Config.gates": "what refuses a run before it is published (exit 80)",
    "Config.tracking": "trackers that hear of what is published; no part of any key",
    "Config.auto": "what the log decides where the config does not",
    "Limit.least": "no smaller value passes",
    "Limit.most": "no larger value passes",
    "Data.timezone": "whose days the instants of data.events.date_column are cut into, and of which the times of a "
    "side table's version are that name no zone",
    "Data.events": "the click log",
    "Data.users": "a table of users; absent: user features are read from the events",
    "Data.items": "a table of items, the catalogue; absent: the items of the day's events",
    "Events.user": "column: an integer or text, never null",
    "Events.item": "column: an integer or text, never null",
    "Events.duration_unit": "of the duration column",
    "Events.weight": "column, 0 or more: a row's weight in all but replay and rescore; absent: 1",
    "Data.csv": "how CSV files are written",
    "SideTable.key": "its id column; one row an id and day",
    "Feature.name": "of the feature, once",
    "Feature.side": "whose it is; a tower never reads context",
    "Feature.kind": "an id or class; a list of ids; a number; a list of numbers of one length",
    "Quantile.quantile": "of the durations of clicked rows",
    "Training.batch_size": "rows a step",
    "Training.embedding_dim": "columns of the embedding table",
    "Student.embedding_dim": "columns of the embedding table",
    "Teacher.model": "the network (docs/method.md)",
    "Teacher.tower_hidden_units": "layers of a task's tower, before its logit",
    "Scores.alpha": "a negative is drawn in proportion to clicks ** alpha",
    "Scores.batch_size": "pairs scored at a time",
    "SourceWeights.exposed": "weight of exposed pairs in replay and rescore; 0 leaves them out",
    "SourceWeights.negative": "of drawn pairs",
    "SourceWeights.candidate": "of retrieved pairs",
    "Floors.replay": "of replay",
    "Floors.match": "of match",
    "Floors.rescore": "of rescore",
    "Distill.w_kd": "weight of the distillation loss; 0: no scores are read",
    "KD.loss": "distance of the student's logits from the teacher's (docs/method.md)",
    "KD.weight": "of this loss in the sum",
    "KD.source_weights": "of a dump's pairs",
    "Distill.ways": "how stored scores reach the student; any of them",
    "Hard.w_hard": "weight of the loss of the day's own labels; 0: none",
    "Hard.loss": "in-batch softmax over positives, or binary cross entropy",
    "Hard.label": "what is positive",
    "Student.vectors": "`unit`: length 1, with a learned scale; `plain`: a dot product as it is",
    "Student.distill": "learning from scores",
    "Student.hard": "learning from labels",
    "Student.exposure": "what is shown, served beside what is preferred",
}


def syntax(model: type[BaseModel]) -> ast.Module:
    """The file that defines a model."""
    return ast.parse(Path(inspect.getfile(model)).read_text(encoding="utf-8"))


def definition(model: type[BaseModel]) -> ast.ClassDef:
    return next(n for n in syntax(model).body if isinstance(n, ast.ClassDef) and n.name == model.__name__)


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """The text under each field, in a model and those it extends."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if not issubclass(kind, Section):
            continue
        body = definition(kind).body
        for node, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                name = node.target.id
                more = MORE.get(f"{kind.__name__}.{name}", "")
                said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                found[name] = " ".join(ast.literal_eval(after.value).split()) if said else more  # type: ignore[union-attr]
    return found


def refusals(model: type[BaseModel]) -> list[str]:
    """Messages of a model's checks that are plain text; those between sections stand beside the whole config."""
    checks = syntax(model) if model is Config else definition(model)
    raised = [node for node in ast.walk(checks) if isinstance(node, ast.Raise)]
    calls = [node.exc for node in sorted(raised, key=lambda n: n.lineno) if isinstance(node.exc, ast.Call)]
    return [str(c.args[0].value) for c in calls if c.args and isinstance(c.args[0], ast.Constant)]


def is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def type_of(kind: Any) -> str:
    """A type in words."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        base = type_of(args[0])
        limits = [m for a in args[1:] for m in (a.metadata if isinstance(a, FieldInfo) else [a])]
        return base + ",".join(w for m in limits if (w := limit(m)))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_of(a) for a in args if a is not type(None))
    if origin is typing.Literal:
        return ", ".join(f"`{a}`" for a in args)
    if origin is tuple:
        inner = type_of(args[0])
        return "list" if is_model(args[0]) else f"list of {inner}"
    if is_model(kind):
        return "keys"
    if origin is dict:
        return f"names, each with {type_of(args[1])}"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}[kind]


def limit(mark: Any) -> str:
    for kind, field, sign in ((Ge, "ge", "≥"), (Gt, "gt", ">"), (Le, "le", "≤"), (Lt, "lt", "<")):
        if isinstance(mark, kind):
            return f" {sign} {getattr(mark, field)}"
    return " (letters, digits, _)" if isinstance(mark, StringConstraints) and mark.pattern else ""


def default_of(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "-"
    if isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple) and value and is_model(type(value[0])):
        return "one of the defaults"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`" if value != "" else '`""`'


def inner_models(kind: Any) -> list[type[BaseModel]]:
    return [kind] if is_model(kind) else [m for a in get_args(kind) for m in inner_models(a)]


def section(model: type[BaseModel], path: str, seen: dict[type[BaseModel], str]) -> str:
    """A model's table, then those below it."""
    hints = typing.get_type_hints(model, include_extras=True)
    said = meanings(model)
    lines = [f"## {path or 'Top level'}", ""]
    if text := ast.get_docstring(definition(model)):
        lines += [text, ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    below = []
    for name, field in model.model_fields.items():
        cells = (f"`{name}`", type_of(hints[name]), default_of(field), said[name])
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
        for other in inner_models(hints[name]):
            many = type_of(hints[name]) == "list"
            below.append((other, f"{path}.{name}".lstrip(".") + (" (a list)" if many else "")))
    if rules := refusals(model):
        lines += ["", "Refused with these words: " + "; ".join(f"“{r}”" for r in rules) + "."]
    parts = ["\n".join(lines)]
    for other, where in below:
        if other in seen:
            parts.append(f"## {where}\n\nAs {seen[other]}.")
        else:
            seen[other] = f"`{where}`"
            parts.append(section(other, where, seen))
    return "\n\n".join(parts)


def limits() -> str:
    """The table of measures that `gates.limits` may name, with their default limits."""
    lines = ["## Measures", "", "What `gates.limits` names. The median is that of the published days before.", ""]
    lines += ["| measure | default limit | of |", "|---|---|---|"]
    for name, (limit, what) in LIMITS.items():
        bounds = ", ".join(f"{key} {value:g}" for key, value in limit.model_dump(exclude_none=True).items())
        lines.append(f"| `{name}` | {bounds} | {what} |")
    return "\n".join(lines)


def reference() -> str:
    return f"{INTRO}\n{section(Config, '', {})}\n\n{limits()}\n"


if __name__ == "__main__":
    print(reference(), end="")
