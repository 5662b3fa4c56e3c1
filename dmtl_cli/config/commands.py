"""Commands as a person types them, for what is printed: every name quoted as a shell needs it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

CONFIG = "--config FILE"
"""in a command of what a run keeps, which others read beside configs of their own"""


def typed(text: str) -> str:
    """One word as a shell reads it, in double quotes where it has single ones and nothing that these expand. What is
    not printable, such as the end of a line, is in `$'...'` of bash and zsh, which keeps the word in one line."""
    if not text.isprintable():
        return "$'" + "".join(map(_escaped, text)) + "'"
    return f'"{text}"' if "'" in text and not set(text) & set('"$`\\!') else shlex.quote(text)


def _escaped(sign: str) -> str:
    if sign in "\\'":
        return f"\\{sign}"
    return sign if sign.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(sign))


def of_config(text: str, config: Path) -> str:
    """What a run keeps, with the config of the one who reads it in its commands."""
    return text.replace(CONFIG, f"--config {typed(str(config))}")


def command(name: str, *words: object) -> str:
    """A command of dmtl with its options and their values, each quoted where it has to be."""
    return " ".join(["dmtl", name, *(typed(str(word)) for word in words)])
