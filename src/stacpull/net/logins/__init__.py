"""Logins at hosts other than SOURCE's own."""
