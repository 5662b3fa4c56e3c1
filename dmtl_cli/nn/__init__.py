"""Building blocks of both models and their training: table, layers, optimizers, loop. Imports config, runs and data."""
