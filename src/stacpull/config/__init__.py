"""The only reader of TOML files and of the environment: flags, environment and config become options."""
