"""What both models are made of and trained by: table, layers, optimizers, loop. Imports config, runs and data."""
