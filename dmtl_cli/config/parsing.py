"""Reads YAML of a user: every value has a line, a key given twice is a mistake, and a hostile file is refused at once.

Numbers such as `1e-3`, which YAML 1.1 reads as text, are accepted as numbers; `yes`/`no` and dates stay the text that
the user typed.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import yaml

from dmtl_cli.config.errors import Exit, UserError

Place = tuple[str | int, ...]
"""keys and positions in lists that lead to a value"""
Marks = dict[Place, int]
"""the line of every value, from 1"""

MOST_BYTES = 1_000_000
DEEPEST = 50
"""lists and mappings in one another"""
MOST_VALUES = 20_000
"""keys and values, those that an alias repeats included"""


def text_of(file: str | Path, what: str = "config") -> str:
    """The text of a YAML. Raises UserError 78. `what`: config or settings, for messages."""
    try:
        found = Path(file).stat()
        if not stat.S_ISREG(found.st_mode):  # a FIFO would be waited for
            raise UserError(f"{file}: cannot be read as text: expected a regular file", code=Exit.CONFIG)
        if found.st_size > MOST_BYTES:
            size = f"{file}: {found.st_size:,} bytes, expected at most {MOST_BYTES:,}"
            raise UserError(size, f"is it a {what} file?", Exit.CONFIG)
        return Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{file}: no such {what} file", f"give --{what} FILE", Exit.CONFIG) from None
    except (OSError, UnicodeDecodeError, ValueError) as e:  # ValueError: a NUL in the name
        raise UserError(f"{file}: cannot be read as text: {e}", code=Exit.CONFIG) from None


def parse(text: str, file: str, place: Place = ()) -> tuple[Any, Marks, list[str]]:
    """(contents of a YAML, the line of every value, keys given twice).

    Args:
        text: the YAML.
        file: its name in messages.
        place: its place in the config.

    Raises:
        UserError: 78 it is not YAML, or more of it than a config has.
    """
    loader: _Loader | None = None
    tree = _Tree(file)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return (None if node is None else tree.plain(node, loader, place)), tree.marks, tree.found
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise UserError(f"{file}:{line}: not YAML: {e.problem}", "check indentation and quotes", Exit.CONFIG) from None
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        raise UserError(f"{file}:{line}: not YAML: {e.reason}", code=Exit.CONFIG) from None
    except (yaml.YAMLError, ValueError) as e:  # ValueError: a tag such as !!int on other text
        line = tree.marks[next(reversed(tree.marks))] if tree.marks else 1
        raise UserError(f"{file}:{line}: not YAML: {e}", code=Exit.CONFIG) from None
    finally:
        if loader is not None:
            loader.dispose()


class _Refused(yaml.MarkedYAMLError):
    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars: only true/false are booleans, 1e-3 is a number, a date is text.

    Composing is recursive, so its depth and its values are counted while it goes on.
    """

    depth = values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth, self.values = self.depth + 1, self.values + 1
        if self.depth > DEEPEST + 1:
            raise _Refused(f"nested more than {DEEPEST} deep", self.get_mark())
        if self.values > MOST_VALUES:
            raise _Refused(f"more than {MOST_VALUES:,} values", self.get_mark())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|false|False)$", list("tTfF")),
    ("int", r"^[-+]?(?:0|[1-9][0-9_]*)$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


class _Tree:
    """Composed nodes as plain Python, with the line of every key and the keys given twice."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.marks: Marks = {}
        self.found: list[str] = []
        self._values = self._depth = 0

    def plain(self, node: yaml.Node, loader: _Loader, place: Place) -> Any:
        """An alias is followed each time, so what it repeats is counted again."""
        self.marks.setdefault(place, node.start_mark.line + 1)
        self._depth, self._values = self._depth + 1, self._values + 1
        if self._depth > DEEPEST + 1:
            raise _Refused(f"nested more than {DEEPEST} deep, or an anchor contains itself", node.start_mark)
        if self._values > MOST_VALUES:
            raise _Refused(f"more than {MOST_VALUES:,} values, with those that aliases repeat", node.start_mark)
        out = self._of(node, loader, place)
        self._depth -= 1
        return out

    def _of(self, node: yaml.Node, loader: _Loader, place: Place) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loader, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(v, loader, (*place, k)) for k, v in enumerate(node.value)]
        if node.tag == "tag:yaml.org,2002:float":
            return float(node.value)
        if isinstance(node.value, str) and "\0" in node.value:  # no path and no column has it
            raise _Refused("text with a NUL character", node.start_mark)
        return loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, loader: _Loader, place: Place) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused("a key is a list or a mapping, expected text", key.start_mark)
            name = str(key.value)
            if "\0" in name:
                raise _Refused("a key with a NUL character", key.start_mark)
            if name in out:
                self.found.append(f"{self.file}:{line}: {name} appears twice in one mapping")
            self.marks[(*place, name)] = line
            out[name] = self.plain(value, loader, (*place, name))
        return out
