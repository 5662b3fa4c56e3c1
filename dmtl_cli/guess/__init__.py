"""What a log that nobody has seen is, and what a day of one looks mistaken about. Imports config, runs and data."""
