"""`--dask`: transfers in worker processes on the machines of a Dask cluster, around one store process.

    walk ─▶ queue ─▶ `DaskWorkers` ══ jobs ══▶ worker process: pool
                          ▲══ bodies, names of parts, failures ══┘

`stacpull` finds `workers.py: DaskWorkers` by its entry point (`stacpull.workers`), and runs it in the place
of its own pool (`stacpull.engine.pool` has the interface). Only `cluster.py` imports distributed.
"""
