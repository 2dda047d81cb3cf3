"""Run by the Python of radiant-mlhub: downloads the whole dataset, catalog and assets into two folders."""

import json
import sys

from radiant_mlhub import Dataset

dataset = Dataset.fetch("bigearthnet_v1")
dataset.download(sys.argv[1], asset_output_dir=sys.argv[2])
sizes = {"catalog": dataset.stac_catalog_size, "dataset": dataset.estimated_dataset_size}
json.dump(sizes, sys.stdout)
