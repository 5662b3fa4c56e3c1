"""The teacher: networks, rows, loss, calibration, scoring. Imports nn, scores, serving and what is below."""
