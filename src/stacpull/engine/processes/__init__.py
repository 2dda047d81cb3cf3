"""`--processes N`: transfers in worker processes, for what one core is too slow for.

    walk ─▶ ledger ─▶ queue ─▶ Crew ══jobs══▶ worker: pool ─▶ writer ─▶ parts/…whole
                                 ▲                                          │
                        publisher ◀════════════════ outcomes ═══════════════┘

The process of the command (the coordinator) walks, owns the ledger, reads items and publishes, as ever. A
worker (`worker.py`) has a loop, a network and a writer thread of its own; it takes jobs, leaves whole parts
and knows nothing of the ledger. What passes between them (`messages.py`) is plain values over a socket pair.

- Workers are started only when more waits than the coordinator has slots for, so a small run has none; until
  they are ready the coordinator transfers itself, with its own share of what a host bears (`shares.py`).
- They are started by spawn: a forked one would inherit the coordinator's descriptors, its lock among them.
- They end when the socket does, so with the coordinator, however that ends. The signals that a terminal sends
  to the whole group they leave to it.
- What a worker had not told of when it was lost is looked for among the parts, and given to others otherwise.
"""
