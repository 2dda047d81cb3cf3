"""The fast path: small plain GETs, without a task, future or await for an asset.

A connection drives itself from the bytes that it receives to the next request. Everything that is unusual
in any respect is handed to the general path, at the point that it has reached: nothing is requested twice.

    path.py         which assets are taken, the requests of one, its redirects, when it is handed over
    connection.py   one connection: plain responses are read in one step, all others by the parser
    message.py      the parser for responses that are not plain
    response.py     a response as the general path reads it, on a connection of the fast path
    connect.py      lookup, address rules, connection, TLS
    requests.py     the bytes of a request
"""
