"""What callers may ask of a task, alone, again, and two at once in every state: as if one of the two had come first."""

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable

import pytest
from integration.task_manager.test_repositories import PATHS, Owner, a_new_task, set_state

from services.common.errors import ServiceError
from services.common.postgres import Pool
from services.task_manager.domain import retry, transitions
from services.task_manager.domain.task import Retry, State, TaskUpdate
from services.task_manager.hub import Hub
from services.task_manager.retry_repository import RetryRepository

pytestmark = pytest.mark.integration

GONE = "TASK_NOT_FOUND"
Outcome = State | str
"""The state that a call leaves, or why it is refused."""


def after_retry(state: State) -> State:
    retry.check_state(state)
    return State.QUEUED


def after_delete(state: State) -> str:
    if not state.is_terminal:
        raise ServiceError("TASK_NOT_TERMINAL", "")
    return GONE


MODEL: dict[str, Callable[[State], Outcome]] = {
    "cancel": transitions.after_cancel,
    "pause": transitions.after_pause,
    "resume": transitions.after_resume,
    "retry": after_retry,
    "delete": after_delete,
    "update": lambda state: state,
}


def expected(state: Outcome, verb: str) -> tuple[Outcome, str]:
    """What becomes of the task, and the reason of a refusal."""
    if not isinstance(state, State):
        return state, GONE
    try:
        return MODEL[verb](state), ""
    except ServiceError as error:
        return state, error.reason


def orders(state: State, pair: tuple[str, str]) -> list[tuple[Outcome, tuple[str, str]]]:
    """The end and both answers, whichever of the two comes first."""
    found = []
    for first in (0, 1):
        answers = ["", ""]
        now, answers[first] = expected(state, pair[first])
        now, answers[1 - first] = expected(now, pair[1 - first])
        found.append((now, (answers[0], answers[1])))
    return found


async def call(owner: Owner, retries: RetryRepository, task_id: uuid.UUID, verb: str) -> str:
    """The reason why it is refused; empty when it is not."""
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "cancel": lambda: owner.tasks.cancel(task_id, ""),
        "pause": lambda: owner.tasks.pause(task_id, ""),
        "resume": lambda: owner.tasks.resume(task_id),
        "retry": lambda: retries.retry(Retry(task_id, uuid.uuid4(), b"d", from_start=False)),
        "delete": lambda: owner.tasks.delete(task_id),
        "update": lambda: owner.tasks.update(task_id, TaskUpdate(priority=3)),
    }
    try:
        await calls[verb]()
    except ServiceError as error:
        return error.reason
    return ""


async def state_of(owner: Owner, task_id: uuid.UUID) -> Outcome:
    try:
        return (await owner.tasks.get(task_id)).state
    except ServiceError as error:
        return error.reason


@pytest.mark.parametrize("state", list(State), ids=lambda state: state.value)
async def test_two_calls_at_once_are_as_one_after_the_other(pool: Pool, state: State) -> None:
    owner = Owner(pool)
    retries = RetryRepository(pool, Hub())
    for pair in itertools.combinations_with_replacement(MODEL, 2):
        task = await owner.tasks.create(a_new_task())
        for step in PATHS[state]:
            await set_state(pool, task.id, step)

        first, second = await asyncio.gather(*(call(owner, retries, task.id, verb) for verb in pair))

        end = await state_of(owner, task.id)
        assert (end, (first, second)) in orders(state, pair), pair
        if isinstance(end, State):
            moves = await owner.tasks.transitions(task.id)
            assert all(transitions.ALLOWED[move.before] >= {move.after} for move in moves if move.before)
            assert moves[-1].after is end
