"""The student: two towers, rows, losses, export. Imports nn, scores, serving and what is below."""
