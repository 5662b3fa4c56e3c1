"""Raw feature values as numbers, and what a chain learns of them; one file a kind. Imports config and data.log."""
