"""The contract between teacher and student: the table of stored scores. Imports config, runs and data."""
