"""Tables of users and items: rows of an id, since when an item is there, and lateness. Imports config, runs, data."""
