"""Uses an export without torch: from a user's raw features to their items. Imports config, runs and data."""

from dmtl_cli.serving.export import Export

__all__ = ["Export"]
