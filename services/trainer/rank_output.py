"""Turns what the ranks print and report into journal records; used by the supervisor's loop."""

import json
import pathlib
import time
from collections.abc import Mapping, Sequence

from services.trainer import training_events
from services.trainer.journal import Event, Journal
from services.trainer.line_splitter import LOG_LIMIT, Line, LineSplitter
from services.trainer.log_room import LogRoom
from services.trainer.stalls import StallWatch
from services.trainer.training_events import UnreadableEvent

_TRAINER_RANK = -1
_PORT_TAKEN = "EADDRINUSE"
# A flood is written down in pieces: the journal's readers and this process' memory stay small.
_MOST_EVENTS = 1000


class RankOutput:
    """All streams of all ranks of one run, in the order in which they were read."""

    def __init__(self, journal: Journal, stalls: StallWatch | None = None, room: LogRoom | None = None) -> None:
        self._journal = journal
        self._room = room or LogRoom(time.monotonic)
        self._stalls = stalls
        self._splitters: dict[tuple[int, str], LineSplitter] = {}
        self._events: list[Event] = []
        self._step = 0
        self._training = False
        self._retried = False
        self.saving: set[int] = set()
        """Ranks that are writing their part of a checkpoint."""
        self.was_heard = False
        """Some rank has said something other than that it is alive."""
        self.port_was_taken = False
        """Some rank said that the port of the process group is in use, before training began."""
        self.out_of_memory: Event | None = None
        """The failure of a rank that had no memory left. It is not written down: smaller batches may help."""

    def feed(self, rank: int, source: str, data: bytes) -> None:
        """What was read from `stdout`, `stderr` or `events` of a rank; empty at the stream's end."""
        limit = training_events.LINE_LIMIT if source == "events" else LOG_LIMIT
        splitter = self._splitters.setdefault((rank, source), LineSplitter(limit))
        for line in splitter.feed(data) if data else splitter.end():
            self._line(rank, source, line)

    def note(self, text: str) -> None:
        """A log entry of the supervisor itself."""
        self._log(_TRAINER_RANK, "trainer", "WARNING", text, truncated=False)
        self.flush()

    def failure(self, *, reason: str, message: str, hint: str = "", metadata: Mapping[str, str] | None = None) -> None:
        """A failure that the supervisor itself has found; without a hint it gets the catalogue's."""
        self.flush()
        self._journal.control("failure", reason=reason, message=message, step=self._step, hint=hint, metadata=metadata or {})

    def anomaly(self, reason: str, message: str, *, rank: int, suggestion: str = "", log_lines: Sequence[str] = ()) -> None:
        """Something the supervisor itself has found; without a suggestion it gets the catalogue's."""
        advice = suggestion or training_events.suggestion(reason)
        told = {"reason": reason, "message": message, "step": self._step, "rank": rank, "rows": []}
        self._events.append(Event("anomaly", {**told, "suggestion": advice, "log_lines": list(log_lines)}))
        self.flush()

    def tell_stored(self, stored: pathlib.Path) -> None:
        """Events of the checkpoints that storage has committed, as the face has left them in the directory `stored`."""
        if not stored.is_dir():
            return
        for path in sorted(path for path in stored.iterdir() if not path.name.startswith(".")):
            self._events.append(Event("checkpoint_saved", json.loads(path.read_text())))
            self.flush()
            path.unlink()

    def flush(self) -> None:
        """Writes what has come since the last time."""
        if self._events:
            self._journal.events(self._events)
            self._events.clear()

    def end(self) -> None:
        """No stream will bring more: half lines count as lines."""
        for (rank, source), splitter in self._splitters.items():
            for line in splitter.end():
                self._line(rank, source, line)
        self._splitters.clear()
        self._tell_left_out()
        self.flush()

    def retry(self) -> None:
        """The ranks start once more, and what they failed of is over; a taken port is a failure from now on."""
        self._retried = True
        self.port_was_taken, self.out_of_memory = False, None
        self.saving.clear()
        self._journal.control("retry")

    def _line(self, rank: int, source: str, line: Line) -> None:
        self.was_heard = self.was_heard or source != "events"
        if source == "events":
            self._report(rank, line)
        elif line.data:
            text, truncated = line.text()
            if self._room.takes(text):
                self._tell_left_out()
                self._log(rank, source, _severity(source, text), text, truncated=truncated)
            if self._stalls is not None and source == "stderr":
                self._stalls.heard(rank, text)
            self._look_for_taken_port(text)
        if len(self._events) >= _MOST_EVENTS:
            self.flush()

    def _tell_left_out(self) -> None:
        if count := self._room.take_left_out():
            text = f"{count:,} {'line was' if count == 1 else 'lines were'} left out here: the run prints more than is kept"
            self._log(_TRAINER_RANK, "trainer", "WARNING", text, truncated=False)

    def _report(self, rank: int, line: Line) -> None:
        try:
            event = training_events.parse(line.data, rank)
        except UnreadableEvent as error:
            text = f"rank {rank} sent an unreadable event: {error}"
            self._log(_TRAINER_RANK, "trainer", "WARNING", text[:LOG_LIMIT], truncated=False)
            return
        self._step = max(self._step, event.fields.get("step", 0))
        self._training = self._training or event.kind in ("training_started", "metrics")
        if event.kind == "checkpoint_saved":
            # It is an event once storage has committed it; until then it is only this trainer's.
            self.flush()
            self._journal.control("checkpoint", **event.fields)
        elif event.kind == "beat":
            self._beat(rank, event.fields["step"], event.fields["phase"])
        elif event.kind == "failure":
            self.was_heard = True
            self._failed(event)
        else:
            self._events.append(event)

    def _beat(self, rank: int, step: int, phase: str) -> None:
        if phase == "saving":
            self.saving.add(rank)
        elif phase == "saved":
            self.saving.discard(rank)
        if self._stalls is not None:
            self._stalls.beat(rank, step, phase)

    def _failed(self, event: Event) -> None:
        self._look_for_taken_port(event.fields["message"])
        # After one rank had no memory left, the others only miss it.
        if event.fields["reason"] == "OUT_OF_MEMORY":
            self.out_of_memory = self.out_of_memory or event
        elif not self.port_was_taken and self.out_of_memory is None:
            self.flush()
            self._journal.control("failure", **event.fields)

    def _look_for_taken_port(self, text: str) -> None:
        if _PORT_TAKEN in text and not self._training and not self._retried:
            self.port_was_taken = True

    def _log(self, rank: int, source: str, severity: str, text: str, *, truncated: bool) -> None:
        fields = {"severity": severity, "rank": rank, "source": source, "text": text, "truncated": truncated}
        self._events.append(Event("log", {**fields, "step": self._step}))


def _severity(source: str, text: str) -> str:
    if source == "stdout":
        return "INFO"
    return "ERROR" if text.startswith(("ERROR", "Traceback")) else "WARNING"
