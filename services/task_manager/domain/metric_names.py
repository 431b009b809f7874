"""Which metrics a reader wants; used by StreamMetrics and ListMetrics."""

from collections.abc import Iterable


class MetricNames:
    """Names, and with `*` at the end the beginnings of names; none = every metric."""

    def __init__(self, names: Iterable[str]) -> None:
        given = set(names)
        self._all = not given
        self._prefixes = tuple(name[:-1] for name in given if name.endswith("*"))
        self._names = frozenset(name for name in given if not name.endswith("*"))

    def __contains__(self, name: str) -> bool:
        return self._all or name in self._names or name.startswith(self._prefixes)
