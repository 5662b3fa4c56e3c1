"""One file a command, top to bottom. Imports everything but cli; one stage does not import another."""
