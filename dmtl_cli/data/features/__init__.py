"""From raw feature values to numbers, and what a chain learns of them; a file per kind. Imports config, runs, data.log."""
