"""The demo's work against scripted services."""

import threading

import pytest
from fake_platform import a_run

from tunesmith import Client
from tunesmith.errors import TunesmithError
from tunesmith.hyperparameters import build
from tunesmith.local import demo_run
from tunesmith.local.demo_run import Question, Timings


def test_the_demos_hyperparameters_exist():
    assert build(demo_run.DEMO_HYPERPARAMETERS).learning_rate > 0


def test_the_demos_data_has_questions_with_answers():
    questions = demo_run.read_questions(demo_run.HELDOUT_FILE)
    assert len(questions) == 80
    assert all(question.messages[-1]["role"] == "user" and question.expected for question in questions)


def test_no_held_out_question_is_trained_on():
    trained = {question.words for question in demo_run.read_questions(demo_run.TRAIN_FILE)}
    assert not trained & {question.words for question in demo_run.read_questions(demo_run.HELDOUT_FILE)}


@pytest.mark.parametrize(("count", "expected"), [(2, ["0", "5"]), (10, list("0123456789")), (99, list("0123456789"))])
def test_fewer_questions_are_spread_evenly(count, expected):
    questions = [Question(({"role": "user", "content": str(n)},), "x") for n in range(10)]
    assert [question.words for question in demo_run.spread(questions, count)] == expected


def test_answers_are_compared_letter_by_letter_without_surrounding_space(platform):
    questions = [
        Question(({"role": "user", "content": "a"},), " echo a\n"),
        Question(({"role": "user", "content": "b"},), "Echo b"),
    ]
    advanced = []
    with Client() as client:
        assert demo_run.count_right(client, "tiny", questions, lambda: advanced.append(1)) == 1
    assert len(advanced) == 2
    assert platform.inference.asked[0].temperature == 0.0


def test_many_questions_are_asked_at_a_time_and_each_advances_the_bar(platform, monkeypatch):
    meeting = threading.Barrier(16)

    def ask(client, model, question):
        meeting.wait(20)
        return f"echo {question.words}"

    monkeypatch.setattr(demo_run, "ask", ask)
    questions = [Question(({"role": "user", "content": str(n)},), f"echo {n % 24}") for n in range(32)]
    advanced = []
    with Client() as client:
        assert demo_run.count_right(client, "tiny", questions, lambda: advanced.append(1)) == 24
    assert len(advanced) == 32


def test_a_question_that_fails_ends_the_count_and_asks_no_more(platform, monkeypatch):
    asked, for_ever = [], threading.Event()

    def refuse(client, model, question):
        asked.append(question)
        for_ever.wait(0.05 if asked[1:] else 0)
        raise TunesmithError("broken")

    monkeypatch.setattr(demo_run, "ask", refuse)
    questions = [Question(({"role": "user", "content": str(n)},), "x") for n in range(2000)]
    with Client() as client, pytest.raises(TunesmithError):
        demo_run.count_right(client, "tiny", questions, lambda: None)
    assert len(asked) < 2000


def test_the_task_is_created_on_what_was_uploaded_and_followed_to_its_end(platform):
    seen = []
    with Client() as client:
        train, heldout = demo_run.upload(client)
        created = demo_run.create(client, train, heldout)
        demo_run.follow(client, created, lambda event: seen.append(event.sequence))
    spec = platform.tasks.created[0].task.spec.fine_tuning
    assert (spec.dataset, spec.validation_dataset) == (train.name, heldout.name)
    assert seen == [event.sequence for event in a_run()]


def test_phases_are_measured_in_order():
    timings = Timings()
    with timings.phase("one"), timings.phase("two"):
        pass
    assert list(timings.seconds) == ["two", "one"]
