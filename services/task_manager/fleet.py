"""The trainers as they last answered; written by the dispatcher, read when a waiting task tells what it waits for."""

from services.task_manager.domain.waiting import Trainers


class Fleet:
    """`is_known` is False until all were asked once."""

    def __init__(self) -> None:
        self.trainers = Trainers()
        self.is_known = False

    def tell(self, trainers: Trainers) -> None:
        """Everybody was asked."""
        self.trainers, self.is_known = trainers, True
