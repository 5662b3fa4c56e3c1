"""The teacher and its regression: networks, rows, loss, scoring. Imports nn, scores, serving and what is below."""
