"""One HTML page a day that a person judges a day by, and an index of them: facts, charts, page. Imports serving, data,
runs and config."""
