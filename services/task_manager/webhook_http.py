"""Sends one signed message by HTTP; used by the delivery of webhooks.

The host is resolved once and the connection goes to the very address that was checked, so a name that changes its mind in between
(DNS rebinding) gains nothing. Redirects are not followed, proxies of the environment are not used.
"""

import http.client
import socket
import ssl
from collections.abc import Mapping, Sequence

from services.task_manager.domain.webhook import Endpoint, is_public


class DeliveryError(Exception):
    """The message did not arrive; says why, without what the receiver answered."""


def post(endpoint: Endpoint, content: bytes, headers: Mapping[str, str], *, allow_private: bool, timeout: float) -> int:
    """The HTTP status. Blocks for a few times `timeout` seconds at most; raises DeliveryError when nobody answers."""
    try:
        with _connected(resolve(endpoint, allow_private=allow_private), endpoint.port, timeout) as connection:
            return _exchange(endpoint, _secured(endpoint, connection), content, headers, timeout)
    except (OSError, http.client.HTTPException) as error:
        raise DeliveryError(f"{type(error).__name__}: {error}"[:200]) from error


def resolve(endpoint: Endpoint, *, allow_private: bool) -> Sequence[str]:
    """The addresses of the host; raises DeliveryError when one of them is not public and none may be private."""
    found = [str(info[4][0]) for info in socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)]
    refused = [] if allow_private else [address for address in found if not is_public(address)]
    if refused:
        raise DeliveryError(f"{refused[0]} is not a public address; WEBHOOK_ALLOW_PRIVATE would allow it")
    return found


def _connected(addresses: Sequence[str], port: int, timeout: float) -> socket.socket:
    """A connection to the first that answers, of at most two: one of each family is worth trying."""
    for address in addresses[:2]:
        try:
            return socket.create_connection((address, port), timeout=timeout)
        except OSError as error:
            failure = error
    raise failure


def _secured(endpoint: Endpoint, connection: socket.socket) -> socket.socket:
    if endpoint.scheme == "http":
        return connection
    return ssl.create_default_context().wrap_socket(connection, server_hostname=endpoint.host)


def _exchange(endpoint: Endpoint, connection: socket.socket, content: bytes, headers: Mapping[str, str], timeout: float) -> int:
    # The connection is made already; `http.client` only speaks over it.
    client = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout)
    client.sock = connection
    try:
        client.request("POST", endpoint.target, content, {"content-type": "application/json", **headers})
        return client.getresponse().status
    finally:
        client.close()
