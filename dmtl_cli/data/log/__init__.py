"""A day of the raw click log: files, checked rows, the tables and the spool made of them. Imports config and runs."""
