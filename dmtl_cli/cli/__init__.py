"""The command line: the only place that prints, catches and exits. Imports everything."""

from dmtl_cli.cli import signals

if signals.is_program():  # before all that takes time to import; a library's caller keeps its own handlers
    signals.install()
