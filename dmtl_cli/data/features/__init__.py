"""From raw feature values to numbers, and what a chain learns of them; one file a kind. Imports config and data.log."""
