"""Free TCP ports for tests."""

from tunesmith.local.ports import pick_free


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listened on a moment ago, and that no outgoing connection gets."""
    return pick_free(1)[0]
