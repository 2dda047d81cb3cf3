"""The connections of the fast path: small plain GETs, without a task, future or await per request.

Callbacks of a connection read each response, and its user sends the next request. Everything unusual is
handed over, with the response so far (`engine.fast_path`): nothing is requested twice.

    host.py           one host: its addresses and its idle connections
    connection.py     one connection: plain responses are read in one step, others by the parser
    plain_head.py     the heads of plain responses
    message.py        the parser for responses that are not plain
    blocks.py         memory into which long bodies are received
    response.py       responses for the general path, on a connection of the fast path
    web_transport.py  opens connections, and closes idle and stalled ones; requests documents and ranges
    requests.py       the bytes of a request
"""
