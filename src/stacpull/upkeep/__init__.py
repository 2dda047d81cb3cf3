"""Verify an existing mirror, and repair it."""
