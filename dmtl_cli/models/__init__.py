"""Teacher and student networks: built from flat numbers, usable without a config."""
