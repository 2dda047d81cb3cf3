"""Turns flags, environment and config files into options. Nothing else reads the environment or TOML."""
