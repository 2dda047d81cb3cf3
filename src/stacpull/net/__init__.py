"""How servers are spoken to: sessions, credentials per host, retries, limits, pacing, redirects."""
