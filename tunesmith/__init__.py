"""What other Python programs import: the SDK."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.errors import TunesmithError

__all__ = ["Client", "TunesmithError"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import tunesmith` costs nothing."""
    if name == "Client":
        from tunesmith.client import Client

        return Client
    if name == "TunesmithError":
        from tunesmith.errors import TunesmithError

        return TunesmithError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
