"""`--dask`: transfers in worker processes on the machines of a Dask cluster, around one store process.

    walk ─▶ queue ─▶ `DaskWorkers` ══ jobs ══▶ worker process: pool
                          ▲══ bodies, names of parts, failures ══┘

`stacpull` finds `coordinator.py: DaskWorkers` by its entry point (`stacpull.workers`), and runs it instead of
its own pool. It gets a `stacpull.engine.mirror: MirrorRun`. Only `cluster.py` imports distributed.
"""
