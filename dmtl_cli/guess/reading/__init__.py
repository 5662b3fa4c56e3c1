"""A place's files as tables with rows of several days, whatever their form. Imports config, runs and data."""
