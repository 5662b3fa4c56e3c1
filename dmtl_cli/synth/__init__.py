"""The click-bait world, a generated log whose right answer is known; no stage imports it. Imports config and
evaluate.truth."""
