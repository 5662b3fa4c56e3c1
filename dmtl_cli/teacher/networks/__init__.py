"""The networks a teacher may have, one file each. Imports nn."""
