"""From a raw log to pairs of a day: the log, its features, negatives, rows to learn. Imports config and runs."""
