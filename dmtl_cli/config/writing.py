"""Writes keys into a config's YAML and leaves every other character as it is."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import yaml

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.parsing import parse
from dmtl_cli.config.reading import Overrides, load_config

Keys = Mapping[str, Mapping[str, int | float]]
"""values by section and key"""


def write_keys(file: Path, keys: Keys, overrides: Overrides = ()) -> list[str]:
    """Writes those of the keys that the file does not have. It is replaced whole, once what it is to be is a config.

    Args:
        overrides: `--set` of the command, which the config needs as it did before.

    Returns:
        What was written, as `section.key: value`.

    Raises:
        UserError: 78 a section is in a place where keys cannot be put, or the result is not a config; 74 the file
            cannot be read or written.
    """
    target = file.resolve()  # what a link names, which stays a link
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    load_config(file, overrides)  # it may have changed since the command began
    try:
        text = target.read_bytes().decode()
        changed, written = with_keys(text, keys, str(file))
        if not written:
            return []
        draft.write_bytes(changed.encode())
        load_config(draft, overrides)
        shutil.copymode(target, draft)
        draft.replace(target)
    except UserError as e:
        raise UserError(e.message.replace(str(draft), str(file)), e.hint, e.code, e.others) from None
    except OSError as e:
        what = f"{file}: its keys cannot be written: {e.strerror or e}"
        raise UserError(what, "check permissions, or write them by hand", Exit.IO) from e
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    return written


def with_keys(text: str, keys: Keys, name: str = "config") -> tuple[str, list[str]]:
    """The text of a config with the keys that it does not have, and these as `section.key: value`.

    A key is put below the line of its section, or after its opening brace; a section that is not there at the end.

    Args:
        name: of the file, for messages.

    Raises:
        UserError: 78 this cannot be done, e.g. as a section is an alias.
    """
    raw, _, _ = parse(text, name)
    root = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{name}:1: expected keys and values", code=Exit.CONFIG)
    missing = {s: {k: v for k, v in some.items() if k not in (raw.get(s) or {})} for s, some in keys.items()}
    missing = {section: some for section, some in missing.items() if some}
    out = text
    sections = {key.value: (key, value) for key, value in root.value}
    below = [(*sections[name], some) for name, some in missing.items() if name in sections]
    for key, value, some in sorted(below, key=lambda each: each[0].start_mark.index, reverse=True):
        out = _inserted(out, key, value, some)
    for section, some in missing.items():
        if section not in sections:
            out = _appended(out, " " * root.start_mark.column, section, some)
    expected = raw | {section: (raw.get(section) or {}) | some for section, some in missing.items()}
    if not _is(out, expected, name):
        whole = "; ".join(f"{s}: {{{', '.join(_lines(some))}}}" for s, some in missing.items())
        raise UserError(f"{name}: its keys cannot be written where they belong", f"write by hand: {whole}", Exit.CONFIG)
    return out, [f"{section}.{line}" for section, some in missing.items() for line in _lines(some)]


def _lines(some: Mapping[str, int | float]) -> list[str]:
    return [f"{key}: {json.dumps(value)}" for key, value in some.items()]


def _inserted(text: str, key: yaml.Node, section: yaml.Node, some: Mapping[str, int | float]) -> str:
    """The text with keys of a section that is there."""
    if getattr(section, "flow_style", False):
        at = section.start_mark.index + 1
        return f"{text[:at]}{', '.join(_lines(some))}{', ' if section.value else ''}{text[at:]}"
    at = text.find("\n", key.end_mark.index) + 1
    nested = isinstance(section, yaml.MappingNode)
    indent = section.start_mark.column if nested else key.start_mark.column + 2
    return text[:at] + _block(text, " " * indent, some) + text[at:]


def _appended(text: str, indent: str, section: str, some: Mapping[str, int | float]) -> str:
    end = "" if text.endswith("\n") else _newline(text)
    return f"{text}{end}{indent}{section}:{_newline(text)}{_block(text, f'{indent}  ', some)}"


def _block(text: str, indent: str, some: Mapping[str, int | float]) -> str:
    return "".join(f"{indent}{line}{_newline(text)}" for line in _lines(some))


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _is(text: str, expected: object, name: str) -> bool:
    """Whether a text is YAML of these contents, with no key twice."""
    try:
        found, _, twice = parse(text, name)
    except UserError:
        return False
    return found == expected and not twice
