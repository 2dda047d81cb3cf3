"""Receiving bytes over HTTP and S3. Transfers are resumed if the object is proven to be the same."""
