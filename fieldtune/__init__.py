"""Fieldtune: tiny networks that go on learning on the microcontroller.

This package is the ground that every other package stands on (errors, sizes, files, console)
and, on top of it, the command: one file a subcommand in :mod:`fieldtune.commands`.
"""

__version__ = "0.1.0"
