"""What is known of a task while it is followed, and how it looks in one line; used by `task watch` and the demo."""

from dataclasses import dataclass, field

from rich.text import Text

from tunesmith.cli.output import duration
from tunesmith.cli.task_text import state_name
from tunesmith.v1.task_event_pb2 import TaskEvent

_LONGEST_BAR, _SHORTEST_BAR = 24, 4
_STATE_STYLES = {"SUCCEEDED": "bold green", "FAILED": "bold red", "CANCELLED": "bold yellow"}


@dataclass(slots=True)
class TaskView:
    """Grows with every event. Times are Unix seconds."""

    state: str = "QUEUED"
    attempt: int = 0
    step: int = 0
    total_steps: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    _first_point: tuple[int, float] | None = None
    _last_point: tuple[int, float] | None = None
    _expected: float | None = None

    def apply(self, event: TaskEvent) -> None:
        """Take one event in."""
        moment = event.time.seconds + event.time.nanos / 1e9
        kind = event.WhichOneof("event")
        if kind == "state_change":
            self.state = state_name(event.state_change.to_state)
        elif kind == "training_started":
            self._begin(event.attempt, event.training_started.total_steps)
        elif kind == "answering_started":
            self._begin(event.attempt, event.answering_started.total_answers)
        elif kind == "step_metrics":
            self._measure(event, moment)

    def remaining_seconds(self) -> float | None:
        """To the last step as the trainer expects, or at the pace so far; None while there is neither."""
        if self._expected is not None:
            return self._expected
        if self._first_point is None or self._last_point is None or not self.total_steps:
            return None
        (first_step, first_time), (last_step, last_time) = self._first_point, self._last_point
        if last_step <= first_step:
            return None
        return (last_time - first_time) / (last_step - first_step) * max(0, self.total_steps - last_step)

    def line(self, width: int = 120) -> Text:
        """`RUNNING  step 96/150  ━━━━━━╸────  64%  loss 1.310 (eval 1.380)  812 tok/s  ETA 0:21`; the bar takes what is left."""
        text = Text(f"{self.state:<10}", style=_STATE_STYLES.get(self.state, "bold"), no_wrap=True, overflow="ellipsis")
        numbers = self._numbers() + (f"  attempt {self.attempt}" if self.attempt > 1 else "")
        if self.total_steps:
            share = min(1.0, self.step / self.total_steps)
            steps = f" step {self.step}/{self.total_steps}  "
            text.append(steps).append_text(_bar(share, width - len(text) - len(steps) - len(numbers) - len("  100%")))
            text.append(f"  {share:4.0%}")
        return text.append(numbers)

    def _numbers(self) -> str:
        parts = []
        if "loss" in self.metrics:
            held_out = f" (eval {self.metrics['eval_loss']:.3f})" if "eval_loss" in self.metrics else ""
            parts.append(f"loss {self.metrics['loss']:.3f}{held_out}")
        if "tokens_per_second" in self.metrics:
            parts.append(f"{self.metrics['tokens_per_second']:,.0f} tok/s")
        if "answers_per_second" in self.metrics:
            parts.append(f"{self.metrics['answers_per_second']:.1f} answers/s")
        if self.state == "RUNNING":
            parts += self._outlook()
        return "".join(f"  {part}" for part in parts)

    def _outlook(self) -> list[str]:
        """After the last step the run still measures, saves and uploads."""
        if self.total_steps and self.step >= self.total_steps:
            return ["finishing"]
        remaining = self.remaining_seconds()
        return [] if remaining is None else [f"ETA {duration(remaining)}"]

    def _begin(self, attempt: int, total_steps: int) -> None:
        """A new attempt starts measuring anew: its pace is its own."""
        self.attempt, self.total_steps = attempt, total_steps
        self._first_point = self._expected = None

    def _measure(self, event: TaskEvent, moment: float) -> None:
        point = event.step_metrics
        self.step = point.step
        self.metrics.update(point.values)
        self._last_point = (point.step, moment)
        if point.HasField("remaining"):
            self._expected = point.remaining.ToMilliseconds() / 1000
        if self._first_point is None:
            self._first_point = self._last_point


def _bar(share: float, room: int) -> Text:
    cells = max(_SHORTEST_BAR, min(_LONGEST_BAR, room))
    filled = round(share * cells)
    return Text("━" * filled, style="green").append("─" * (cells - filled), style="bright_black")


def metric_line(event: TaskEvent) -> str:
    """A point as one line: `step 12 loss=1.234 learning_rate=0.0001`."""
    values = " ".join(f"{name}={value:.6g}" for name, value in sorted(event.step_metrics.values.items()))
    return f"step {event.step_metrics.step} {values}"
