"""What a model is worth on a day: metrics, rankers, comparison. Imports the models and what is below."""
