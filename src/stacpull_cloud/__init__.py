"""Buckets of Amazon S3, Google Cloud Storage and Azure as DEST; `gs://` and `az://` as SOURCE. On obstore."""
