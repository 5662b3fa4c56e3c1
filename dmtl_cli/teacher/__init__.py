"""The teacher: network, rows, loss, and a frozen one at work. Imports nn, scores and what is below."""
