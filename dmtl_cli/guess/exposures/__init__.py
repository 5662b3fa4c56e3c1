"""Who saw what, when, and what tells that they clicked it. Imports config, runs and data."""
