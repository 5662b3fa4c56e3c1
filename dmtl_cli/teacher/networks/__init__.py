"""The networks that a teacher may have, a file each. Imports config and nn."""
