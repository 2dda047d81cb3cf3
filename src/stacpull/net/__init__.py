"""Requests to servers: sessions, credentials per host, retries, limits, pacing, redirects."""
