"""Headers of TIFF and COG assets as a table (`stacpull headers`), read with a few range requests each."""

from stacpull.system import require_posix

require_posix()  # the modules here write files as `stacpull.store` does
