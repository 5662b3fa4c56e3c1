"""What names and values of a column say by themselves, and the roles that columns may have. Imports config and data."""
