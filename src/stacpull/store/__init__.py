"""Storing bytes: parts hold them until they get their final names, in a directory or a bucket."""
