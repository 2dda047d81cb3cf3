"""Logging in to other hosts than SOURCE's own, each in its own way."""
