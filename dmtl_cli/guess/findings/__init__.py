"""What is told of a day: rows that do not count, what looks mistaken, memory. Imports config, runs and data."""
