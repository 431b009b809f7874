"""Tells how far an export is, in the events every run has; used by the export."""

import logging

from services.trainer.training.events import EventSink


class Stages:
    """The steps of a run without a loss."""

    def __init__(self, sink: EventSink, log: logging.Logger) -> None:
        self._sink = sink
        self._log = log
        self.done = 0

    def begin(self, total: int, values: dict[str, int | str]) -> None:
        """There will be `total` stages; `values` describe the run as TrainingStarted has them."""
        self._sink.started({"total_steps": total, "num_processes": 1} | values)

    def alive(self) -> None:
        """The stage under way moves."""
        self._sink.beat(self.done, "busy")

    def next(self, text: str, **numbers: float) -> None:
        """Another stage is done; `numbers` were measured in it."""
        self.done += 1
        self._log.info("%s", text)
        self._sink.metrics(self.done, numbers)
        self._sink.beat(self.done)
