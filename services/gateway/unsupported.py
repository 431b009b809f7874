"""Fields of a request that cannot be answered: refused by name when they ask for something, passed when they ask for nothing."""

from collections.abc import Mapping

from services.gateway.bodies import Body
from services.gateway.failures import refused


def refuse_present(body: Body, reasons: Mapping[str, str], path: str = "") -> None:
    """Raises InvalidArgument (UNSUPPORTED_PARAMETER) for the first field of `reasons` that is there and not empty.

    `path` is where the body stands."""
    for name, reason in reasons.items():
        if body.get(name) not in (None, "", [], {}, False, 0):
            raise refused(path + name, reason, reason="UNSUPPORTED_PARAMETER")
