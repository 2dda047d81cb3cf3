"""A run: walk, queue and pool in the network process, and the publisher in the store process."""
