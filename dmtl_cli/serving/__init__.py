"""Using an export without torch. Imports config and data.features."""

from dmtl_cli.serving.export import Export

__all__ = ["Export"]
