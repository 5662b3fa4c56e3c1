"""The networks that a teacher may have, one per file. Imports config and nn."""
