"""Runs that connect the other packages: producer → queue → pool, and the publisher in the store process."""
