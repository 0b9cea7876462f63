"""The command line: flags in, actions called, values shown."""
