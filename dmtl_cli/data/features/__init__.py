"""Raw feature values as numbers: one file a kind. Imports config and data.log."""
