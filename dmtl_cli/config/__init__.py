"""The config a user wrote: its YAML, its days, and how mistakes in it are reported. Imports nothing of dmtl."""
