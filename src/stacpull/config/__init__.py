"""Turns command-line options, environment variables and TOML files into `Selection` and `Options`.

A few variables that are not options are read where they are used: proxies (`proxies`), AWS settings
(`aws`), job arrays (`system`), and what the terminal can show (`cli`).
"""
