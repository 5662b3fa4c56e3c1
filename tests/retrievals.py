"""What lists of items find, on average over users."""

from __future__ import annotations

from typing import Any

from dmtl_cli.evaluate import metrics


def retrieved(*of: Any, **more: Any) -> dict[str, float]:
    """Args: as `metrics.retrieval_of_each` takes them."""
    return metrics.means(metrics.retrieval_of_each(*of, **more))
