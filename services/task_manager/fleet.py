"""The trainers as they last answered; written by the dispatcher, read when a waiting task tells what it waits for."""

from collections.abc import Mapping, Sequence

from services.task_manager.domain.schedule import Machine


class Fleet:
    """`machines` answer, the addresses in `silent` do not; `is_known` is False until all were asked once.

    `unfit`: versions by address of those that answer and get no runs, as their version is not compatible.
    """

    def __init__(self) -> None:
        self.machines: Sequence[Machine] = ()
        self.silent: Sequence[str] = ()
        self.unfit: Mapping[str, str] = {}
        self.is_known = False

    def tell(self, machines: Sequence[Machine], silent: Sequence[str], unfit: Mapping[str, str] | None = None) -> None:
        """Everybody was asked."""
        self.machines, self.silent, self.unfit, self.is_known = machines, silent, unfit or {}, True
