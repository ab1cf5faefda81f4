"""The command line of the project; the work is done by golden, encoder, build and sim."""

__version__ = "0.1.0"
