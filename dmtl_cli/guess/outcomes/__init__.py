"""Tables and rows of what came of exposures, and which exposure each is of. Imports config and data."""
