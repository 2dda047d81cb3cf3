"""Buckets of Amazon S3, Google Cloud Storage and Azure as DEST, on obstore.

bucket_kinds    one class for each service: its URLs, endpoint and credentials; how its buckets are opened
objects         requests to one prefix, repeated if the service fails
obstore_errors  what obstore's errors mean
bucket_store    `stacpull.store.protocol.Store` on these objects
lease           only one mirror writes to a prefix at a time; the copy of the ledger in the bucket
cloud_source    `gs://` and `az://` as SOURCE and assets
"""
