"""A day of the raw click log, checked, as tables and a spool of events. Imports config and runs."""
