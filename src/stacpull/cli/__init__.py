"""The command line: the modules of commands, and what they share; no logic of its own."""
