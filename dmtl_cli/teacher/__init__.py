"""The teacher: networks, rows, loss, calibration, scoring, the regression beside it. Imports nn, scores, serving and what is below."""
