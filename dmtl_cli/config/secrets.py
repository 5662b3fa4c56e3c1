"""Credentials in what a user wrote: a config with some is refused, and a message that quotes some shows stars."""

from __future__ import annotations

import re
from urllib.parse import unquote

STARS = "***"
_PLACE = re.compile(
    r"://[^\s/?#'\"]*@"  # s3://KEY:SECRET@bucket
    r"|://(?!\[)[^\s/?#'\"@:]*:(?!\d+(?:[/?#&\s'\"),;]|$))[^\s'\"]+"  # the same where the secret contains a slash
    r"|\b[A-Za-z0-9]{4,}:[^\s@'\"/:][^\s@'\":]{7,}@"  # KEY:SECRET@bucket
)
_NAMED = re.compile(
    r"((?:\b|_)(?:access[_-]?key(?:[_-]?id)?|secret(?:[_-]?access)?(?:[_-]?key)?|(?:session|security)[_-]?token"
    r"|password|x-amz-[a-z-]+)=)[^\s&;,'\"]+",
    re.IGNORECASE,
)
_SENSITIVE = re.compile(r"secret|passw|token|access[_-]?key|credential", re.IGNORECASE)


def has_credentials(text: str) -> bool:
    """Whether a text contains credentials as a URL does: before `@`, or as `secret_key=...`; percent-encoded too."""
    forms = {text, once := unquote(text), unquote(once)}
    return any(pattern.search(form) for form in forms for pattern in (_PLACE, _NAMED))


def masked(text: str) -> str:
    """The text with stars in place of credentials."""
    text = _NAMED.sub(rf"\1{STARS}", _PLACE.sub(_starred, text))
    return re.sub(r"\S*%\S*", lambda word: STARS if has_credentials(word[0].replace(STARS, "")) else word[0], text)


def masked_override(entry: str) -> str:
    """A `key=value` of `--set` as messages and logs quote it: of a value that may be a secret only the key."""
    key, equals, _ = entry.partition("=")
    hidden = equals and (has_credentials(entry) or _SENSITIVE.search(entry))
    return f"{masked(key)}={STARS}" if hidden else masked(entry)


def _starred(found: re.Match[str]) -> str:
    start = "://" if found[0].startswith("://") else ""
    return start + STARS + ("@" if found[0].endswith("@") else "")
