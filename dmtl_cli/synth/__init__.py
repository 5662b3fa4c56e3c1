"""Generated logs whose right answer is known, the click-bait world and that of positions; no stage imports them.
Imports config, runs, evaluate.laws and evaluate.truth."""
