"""How good a model is on a day: rankers, metrics, tables. Imports teacher, student and what is below."""
