"""A click-bait world whose right answer is known. Nothing that a user's day needs imports it."""
