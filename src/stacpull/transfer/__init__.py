"""How bytes come in: HTTP and S3, resumed where the object is proven to be the same."""
