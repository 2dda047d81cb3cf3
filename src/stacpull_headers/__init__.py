"""Headers of TIFF and COG assets as a table (`stacpull headers`), read with a few range requests each."""
