"""How good a model is on a day: rankers, metrics, tables. Imports teacher, student, serving, data, runs and config."""
