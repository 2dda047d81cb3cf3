"""`--dask`: transfers in worker processes on the machines of a Dask cluster, around one store process."""
