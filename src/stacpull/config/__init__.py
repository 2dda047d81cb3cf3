"""Turns command-line options, environment variables and TOML files into `Selection` and `Options`."""
