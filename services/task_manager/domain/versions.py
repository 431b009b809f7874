"""Whether a trainer and the task manager understand one another, by their versions; used by the dispatcher."""


def is_compatible(own: str, other: str) -> bool:
    """By Semantic Versioning: the same major version, below 1.0 the same minor version. Empty, from before it was told, is."""
    return not other or _promise(own) == _promise(other)


def _promise(version: str) -> list[str]:
    major, *rest = version.split(".")
    return [major, *rest[:1]] if major == "0" else [major]
