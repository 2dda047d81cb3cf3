"""Run by the Python of radiant-mlhub: downloads the archive named first into the folder named second."""

import sys

from radiant_mlhub import client
from radiant_mlhub.exceptions import EntityDoesNotExist

try:
    sys.stdout.write(str(client.download_collection_archive(sys.argv[1], sys.argv[2])))
except EntityDoesNotExist as error:
    sys.stdout.write(f"none: {error}")
