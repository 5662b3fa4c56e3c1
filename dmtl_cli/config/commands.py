"""Commands as a person types them, for what is printed: every name quoted as a shell needs it."""

from __future__ import annotations

import shlex


def typed(text: str) -> str:
    """One word as a shell reads it, in double quotes where it has single ones and nothing that these expand."""
    return f'"{text}"' if "'" in text and not set(text) & set('"$`\\!') else shlex.quote(text)


def command(name: str, *words: object) -> str:
    """A command of dmtl with its options and their values, each quoted where it has to be."""
    return " ".join(["dmtl", name, *(typed(str(word)) for word in words)])
