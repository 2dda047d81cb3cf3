"""`stacpull headers`: a table of TIFF and COG headers, read with a few range requests per file."""

from stacpull.system import require_posix

require_posix()  # the modules here write files as `stacpull.store` does
