"""Which stack the demo uses, and what becomes of it afterwards."""

import json

import pytest

from tunesmith.local import daemon, demo_run
from tunesmith.local.demo_run import Question, Timings
from tunesmith.local.ports import DEFAULT_PORTS
from tunesmith.local.state import DataDirectory, ProcessId, StackState

ADDRESSES = {"task_manager": "127.0.0.1:1", "storage": "127.0.0.1:2", "inference": "127.0.0.1:3"}
STATE = StackState("1", ProcessId(1, 1.0), 1.0, ADDRESSES, ready=True)


class Stack:
    """What would be started; remembers what was done to it, in order."""

    def __init__(self):
        self.done = []
        self.state = STATE
        self.process = self

    def wait(self):
        self.done.append("waited for")


@pytest.fixture
def directory(tmp_path):
    return DataDirectory(tmp_path)


@pytest.fixture
def stack(monkeypatch):
    stack = Stack()

    def start(directory, options, *, bound_to_us):
        stack.done.append(("started", tuple(options), bound_to_us))
        return stack

    monkeypatch.setattr(daemon, "running", lambda directory: None)
    monkeypatch.setattr(daemon, "start", start)
    monkeypatch.setattr(daemon, "stop", lambda directory: stack.done.append("stopped"))
    monkeypatch.setattr(demo_run, "is_free", lambda port: True)
    return stack


@pytest.mark.parametrize("keep", [True, False])
def test_a_stack_that_runs_is_used_and_left_as_it_was(stack, directory, monkeypatch, keep):
    monkeypatch.setattr(daemon, "running", lambda directory: STATE)
    with demo_run.running_stack(directory, keep=keep) as state:
        assert state is STATE
    assert stack.done == []


def test_otherwise_one_is_started_that_cannot_outlive_the_demo_and_stopped_at_the_end(stack, directory):
    with demo_run.running_stack(directory, keep=False) as state:
        assert state is STATE
        assert stack.done == [("started", (), True)]
    assert stack.done[1:] == ["stopped", "waited for"]


def test_one_that_is_to_be_kept_is_not_bound_to_the_demo_and_not_stopped(stack, directory):
    with demo_run.running_stack(directory, keep=True):
        pass
    assert stack.done == [("started", (), False)]


def test_a_demo_that_fails_stops_its_stack_too(stack, directory):
    with pytest.raises(KeyboardInterrupt), demo_run.running_stack(directory, keep=False):
        raise KeyboardInterrupt
    assert stack.done[1:] == ["stopped", "waited for"]


@pytest.mark.parametrize("service", DEFAULT_PORTS)
def test_one_taken_port_is_enough_to_take_free_ones(stack, directory, monkeypatch, service):
    monkeypatch.setattr(demo_run, "is_free", lambda port: port != DEFAULT_PORTS[service])
    with demo_run.running_stack(directory, keep=False):
        pass
    assert stack.done[0] == ("started", ("--free-ports",), True)


def test_the_client_is_of_exactly_this_stack_whatever_the_environment_names(monkeypatch):
    for service in ADDRESSES:
        monkeypatch.setenv(f"TUNESMITH_{service.upper()}_ADDRESS", "elsewhere:1")
    with demo_run.connect(STATE) as client:
        assert {service: client.connection(service).address for service in ADDRESSES} == ADDRESSES


def test_questions_are_rows_without_their_answer_and_blank_lines_are_none(tmp_path):
    path = tmp_path / "rows.jsonl"
    roles = ("system", "s"), ("user", "q%d"), ("assistant", "a%d")
    row = json.dumps({"messages": [{"role": role, "content": content} for role, content in roles]}) + "\n"
    path.write_text("\n" + "".join(row % (n, n) for n in range(4)) + "\n")
    questions = demo_run.read_questions(path)
    assert [(question.words, question.expected) for question in questions] == [(f"q{n}", f"a{n}") for n in range(4)]
    assert [message["role"] for message in questions[0].messages] == ["system", "user"]
    assert [question.words for question in demo_run.read_questions(path, 2)] == ["q0", "q2"]


@pytest.mark.parametrize(
    ("have", "want", "expected"), [(0, 3, ""), (1, 3, "0"), (5, 0, ""), (5, 1, "0"), (5, 3, "013"), (7, 4, "0135")]
)
def test_some_of_the_questions_come_in_order_and_none_twice(have, want, expected):
    questions = [Question(({"role": "user", "content": str(n)},), "x") for n in range(have)]
    assert "".join(question.words for question in demo_run.spread(questions, want)) == expected


def test_a_phase_that_fails_is_measured_too():
    timings = Timings()
    with pytest.raises(ValueError, match="x"), timings.phase("one"):
        raise ValueError("x")
    assert list(timings.seconds) == ["one"]
    assert timings.seconds["one"] >= 0
