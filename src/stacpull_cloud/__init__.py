"""Buckets of Amazon S3, Google Cloud Storage and Azure as DEST, on obstore.

kinds         what `stacpull` finds by its entry points: which URLs are buckets, and how one is opened
objects       obstore's stores, and the requests to one prefix: repeated if the service fails
bucket_store  `stacpull.store.protocol.Store` on these objects
lease         only one mirror writes to a prefix at a time; the copy of the ledger in the bucket
"""
