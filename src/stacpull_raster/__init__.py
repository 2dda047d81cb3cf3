"""`stacpull headers`: a table of TIFF and COG headers, read with a few range requests per file."""
