"""From raw feature values to numbers, and what a chain learns of them. Imports config, runs, data.log."""
