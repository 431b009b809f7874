"""The trainers as they last answered; written by the dispatcher, read when a waiting task tells what it waits for."""

from collections.abc import Sequence

from services.task_manager.domain.schedule import Machine


class Fleet:
    """`machines` answer, the addresses in `silent` do not; `is_known` is False until all were asked once."""

    def __init__(self) -> None:
        self.machines: Sequence[Machine] = ()
        self.silent: Sequence[str] = ()
        self.is_known = False

    def tell(self, machines: Sequence[Machine], silent: Sequence[str]) -> None:
        """Everybody was asked."""
        self.machines, self.silent, self.is_known = machines, silent, True
