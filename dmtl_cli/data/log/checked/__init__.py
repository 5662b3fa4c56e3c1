"""Checked rows: their labels, what is left out of them, and the day that they are. Imports config and runs."""
