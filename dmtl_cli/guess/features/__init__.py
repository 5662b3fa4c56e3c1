"""Which columns may be features, of which kind, and which know their answer. Imports config, runs and data."""
