"""The demo's work, phase by phase and without any printing; used by `tunesmith demo`."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.client import Client
from tunesmith.local import daemon
from tunesmith.local.ports import DEFAULT_PORTS, is_free
from tunesmith.local.state import DataDirectory, StackState
from tunesmith.streams import ResumingStream
from tunesmith.v1.dataset_pb2 import Dataset
from tunesmith.v1.task_event_pb2 import TaskEvent
from tunesmith.v1.task_pb2 import Task

DEMO_HYPERPARAMETERS = {
    "num_train_epochs": 1,
    "learning_rate": 1e-3,
    "global_batch_size": 16,
    "lora.rank": 16,
}
DEMO_BASE_MODEL = "smollm2-135m-instruct"
DEMO_TASK_NAME = "Support desk intents"
SHOWN_QUESTIONS = 3
_ANSWER_TOKENS = 12  # a right answer has at most 9
_ASKED_AT_ONCE = 16  # as many as inference answers at the same time
_DATA = Path(__file__).parent / "demo"
TRAIN_FILE = _DATA / "train.jsonl"
HELDOUT_FILE = _DATA / "heldout.jsonl"


@dataclass(frozen=True, slots=True)
class Question:
    """A held-out row: what is asked, and the answer it should get."""

    messages: tuple[dict[str, str], ...]
    expected: str

    @property
    def words(self) -> str:
        """The user's last words."""
        return self.messages[-1]["content"]


@dataclass(slots=True)
class Timings:
    """Seconds by phase, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a block."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - started, 2)


def read_questions(path: Path, limit: int | None = None) -> list[Question]:
    """Held-out rows as questions; with a limit, rows spread evenly over the file."""
    rows = [json.loads(line)["messages"] for line in path.read_text().splitlines() if line.strip()]
    questions = [Question(tuple(messages[:-1]), messages[-1]["content"]) for messages in rows]
    return spread(questions, limit) if limit else questions


def spread(questions: Sequence[Question], count: int) -> list[Question]:
    """`count` of them, evenly from the beginning to the end."""
    count = min(count, len(questions))
    return [questions[index * len(questions) // count] for index in range(count)]


@contextlib.contextmanager
def running_stack(directory: DataDirectory, *, keep: bool) -> Iterator[StackState]:
    """The stack on this directory: the one that runs, or one of our own, which is stopped at the end unless it is kept."""
    if state := daemon.running(directory):
        yield state
        return
    taken = any(not is_free(port) for port in DEFAULT_PORTS.values())
    background = daemon.start(directory, ["--free-ports"] if taken else [], bound_to_us=not keep)
    try:
        yield background.state
    finally:
        if not keep:
            daemon.stop(directory)
            background.process.wait()


def connect(state: StackState) -> Client:
    """A client of exactly this stack, whatever the environment names."""
    addresses = state.addresses
    return Client(task_manager=addresses["task_manager"], storage=addresses["storage"], inference=addresses["inference"])


def upload(client: Client) -> tuple[Dataset, Dataset]:
    """Training and held-out data."""
    return client.upload_dataset(TRAIN_FILE, "Support desk, training"), client.upload_dataset(
        HELDOUT_FILE, "Support desk, held out"
    )


def create(client: Client, train: Dataset, heldout: Dataset) -> Task:
    """Queue the demo's task."""
    return client.create_task(
        name=DEMO_TASK_NAME,
        description="Which of the support desk's intents does a customer's sentence have?",
        base_model=DEMO_BASE_MODEL,
        dataset=train.name,
        validation_dataset=heldout.name,
        # Its answers are asked for in front of the visitor.
        skip_evaluation=True,
        hyperparameters=DEMO_HYPERPARAMETERS,
    )


def follow(client: Client, task: Task, show: Callable[[TaskEvent], None]) -> Task:
    """Show every event until the end; the task as it ended."""
    stream: ResumingStream[TaskEvent] = client.watch_task(task.name)
    with stream:
        for event in stream:
            show(event)
    return client.get_task(task.name)


def ask(client: Client, model: str, question: Question) -> str:
    """The model's answer, always its likeliest."""
    answer = client.chat(model, list(question.messages), temperature=0.0, max_tokens=_ANSWER_TOKENS)
    return answer.message.content.strip()


def count_right(client: Client, model: str, questions: Sequence[Question], advance: Callable[[], None]) -> int:
    """How many answers equal the expected one, letter by letter; many questions are asked at a time."""
    right = 0
    with ThreadPoolExecutor(_ASKED_AT_ONCE, thread_name_prefix="ask") as pool:
        asked = {pool.submit(ask, client, model, question): question for question in questions}
        try:
            for answered in as_completed(asked):
                right += answered.result() == asked[answered].expected.strip()
                advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return right
