"""Which files a day of a table is, and their rows, with what lies in a table of its own. Imports config and runs."""
