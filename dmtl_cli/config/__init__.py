"""What a user wrote: the YAML, its days, and how a mistake in it is told. Imports nothing of dmtl."""
