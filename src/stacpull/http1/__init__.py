"""HTTP/1.1 on connections that need no task, future or await for a small plain GET.

Callbacks of a connection read each response, and its user sends the next request. For the fast path
(`engine.fast_path`), everything unusual is handed over with the response so far: nothing is requested twice.

    host.py           one host: its addresses and its idle connections; the bytes of a request
    connection.py     a connection, and the responses that a task reads from it
    message.py        the parser for responses
    web_transport.py  opens connections, and closes idle and stalled ones; requests documents and ranges
"""
