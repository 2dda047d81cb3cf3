"""Imported at the start of a validator's Python: loopback answers its https requests by http.

Validators want schemas from the network. `STACPULL_SCHEMAS_PORT` is the port of the server that has them; it
sees in `Host` who was meant.
"""

import http.client
import os
import socket

_PORT = int(os.environ["STACPULL_SCHEMAS_PORT"])


def _to_loopback(connection: http.client.HTTPConnection) -> None:
    connection.sock = socket.create_connection(("127.0.0.1", _PORT), 10)


http.client.HTTPSConnection.connect = _to_loopback  # type: ignore[method-assign]

try:
    from urllib3.connection import HTTPSConnection
except ImportError:
    pass
else:
    HTTPSConnection.connect = _to_loopback  # type: ignore[method-assign]
    HTTPSConnection.is_verified = True
