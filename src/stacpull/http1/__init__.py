"""HTTP/1.1 on connections that need no task, future or await for a small plain GET.

For the fast path (`engine.fast_path`), everything unusual is handed over with the response so far: nothing is
requested twice.
"""
