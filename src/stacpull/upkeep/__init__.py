"""Looks after a mirror that is there: verifies it, rebuilds its ledger, merges its shards."""
