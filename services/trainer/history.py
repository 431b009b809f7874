"""What a journal adds up to: how far a run is, and its state; used by the keeper and wherever a run is shown."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from services.trainer.journal import Record
from services.trainer.processes import Identity
from services.trainer.run import Failure, State, Wish

_EARLY_ENDS = ("EARLY_STOPPED", "TIME_LIMIT_REACHED")


@dataclasses.dataclass(frozen=True, slots=True)
class Exit:
    """The processes are gone."""

    codes: Mapping[int, int | None]
    """Exit code by rank, negative for a signal; empty when the supervisor was lost."""
    cancelled: bool
    """The supervisor was asked to end them."""
    failed_rank: int | None
    """The rank that failed first."""
    lost: str
    """Not empty: the supervisor was gone without a word, and this is what is known of it."""

    def went_well(self) -> bool:
        """Whether every rank did its work to the end."""
        return bool(self.codes) and all(code == 0 for code in self.codes.values()) and not self.cancelled


@dataclasses.dataclass(frozen=True, slots=True)
class End:
    """The run is terminal."""

    state: State
    failure: Failure | None
    artifact: str
    time: float
    early_end: str = ""
    """Why a run that went well made fewer steps than planned; empty when it did not."""


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """Everything a journal says so far."""

    head: int = 0
    """Number of the newest event."""
    step: int = 0
    """Newest optimizer step reported."""
    resumed: int = 0
    """The step it continued from, 0 = none."""
    started: bool = False
    patience: float = 0.0
    """Seconds beyond its grace that the supervisor may give the ranks to save what they have done."""
    supervisor: Identity | None = None
    group: pathlib.Path | None = None
    """Directory of the control group that all its processes are in; None = it has none of its own."""
    failure: Failure | None = None
    """What the training process itself gave as the reason; the first counts."""
    exit: Exit | None = None
    artifact: str = ""
    saved: tuple[str, ...] = ()
    """Names of the checkpoints the training process has made durable here, in order."""
    told: frozenset[str] = frozenset()
    """Names of those that an event has told of."""
    early_end: str = ""
    """Why the training ended before its last planned step; empty when it did not."""
    end: End | None = None

    def after(self, records: Iterable[Record]) -> "History":
        """With further records, in order."""
        history, head, step = self, self.head, self.step
        for record in records:
            if "sequence" in record:
                head = record["sequence"]
                step = max(step, _step(record))
                history = history._told_of(record)
            else:
                history = history._controlled(record)
        return dataclasses.replace(history, head=head, step=step)

    def state(self, wish: Wish | None) -> State:
        """The run's state, given what is wished of it."""
        if self.end is not None:
            return self.end.state
        if wish is not None and wish.stop is None:
            return State.CANCELLING
        return State.RUNNING if self.started else State.STARTING

    def knows(self, step: int) -> bool:
        """Whether the journal has everything up to a checkpoint of this step: the processes said that it is durable, or began
        with it.

        What a killed supervisor had not read yet is lost; a run that went on from a checkpoint behind it would have a gap in its
        losses for ever. Before the processes start there are only checkpoints of earlier runs.
        """
        return not self.started or step <= self.resumed or f"step-{step}" in self.saved

    def _told_of(self, event: Record) -> "History":
        match event["kind"]:
            case "training_started":
                return dataclasses.replace(self, resumed=int(event.get("resumed_step") or 0))
            case "checkpoint_saved":
                return dataclasses.replace(self, told=self.told | {event["name"]})
            case "anomaly" if event["reason"] in _EARLY_ENDS:
                return dataclasses.replace(self, early_end=event["message"])
            case "artifact_created":
                return dataclasses.replace(self, artifact=event["artifact"])
        return self

    def _controlled(self, record: Record) -> "History":
        news: dict[str, Any] = {}
        match record["control"]:
            case "started":
                identity = record.get("supervisor")
                group = pathlib.Path(record["group"]) if record.get("group") else None
                news = {"started": True, "supervisor": Identity(**identity) if identity else None, "group": group}
            case "failure":
                news = {"failure": self.failure or Failure.from_record(record)}
            case "checkpoint":
                news = {"saved": (*self.saved, record["name"])}
            case "patience":
                news = {"patience": float(record["seconds"])}
            case "retry":
                # What the ranks before failed of is over.
                news = {"failure": None}
            case "exit":
                news = {"exit": _exit(record)}
            case "end":
                news = {"end": _end(record)}
        return dataclasses.replace(self, **news)


def _step(event: Record) -> int:
    """The last step that an event tells to be done."""
    if event["kind"] == "metrics":
        return int(event["step"])
    return int(event.get("resumed_step") or event.get("resumed_answers") or 0)


def _exit(record: Record) -> Exit:
    codes = {int(rank): code for rank, code in record["exit_codes"].items()}
    return Exit(codes, record["cancelled"], record.get("failed_rank"), record.get("lost", ""))


def _end(record: Record) -> End:
    failure = Failure.from_record(record["error"]) if record.get("error") else None
    return End(State(record["state"]), failure, record.get("artifact") or "", record["time"], record.get("early_end") or "")
