"""HTTP to the object store by presigned URLs, without a library; used by uploads in parts and by direct downloads."""

import http.client
import ssl
import urllib.parse

SOCKET_SECONDS = 60.0


def connect(place: urllib.parse.SplitResult) -> http.client.HTTPConnection:
    """A connection to the host of a URL; it connects with the first request."""
    if place.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(place.netloc, timeout=SOCKET_SECONDS, context=context)
    return http.client.HTTPConnection(place.netloc, timeout=SOCKET_SECONDS)


def target(place: urllib.parse.SplitResult) -> str:
    """Path and query of a URL."""
    return f"{place.path}?{place.query}"
