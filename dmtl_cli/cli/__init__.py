"""The command line: the only place that prints, catches and exits. Imports everything."""
