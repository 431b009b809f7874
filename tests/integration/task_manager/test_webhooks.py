"""Events for webhooks: written with the change, delivered at least once, to a real receiver."""

import asyncio
import datetime
import json
import uuid
from collections.abc import Iterator

import pytest
from integration.task_manager.fake_peers import FakeStorage, FakeTrainer
from integration.task_manager.manager_harness import Platform, eventually, make_settings, platform_of
from integration.task_manager.test_repositories import Owner, a_new_task
from unit.task_manager.test_webhook import KEY, SECRET, Receiver, at, receiving

from services.common.config import Secret
from services.common.postgres import Pool, transaction
from services.task_manager.domain import webhook
from services.task_manager.domain.task import Change, State
from services.task_manager.servicer import utc_now
from services.task_manager.webhook_delivery import WebhookDelivery
from services.task_manager.webhook_events import WebhookEvents
from tunesmith.v1.artifact_service_pb2 import ArtifactNotice

pytestmark = pytest.mark.integration

SOON = datetime.timedelta(minutes=1)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def events(pool: Pool) -> WebhookEvents:
    return WebhookEvents(pool)


@pytest.fixture
def delivery(events: WebhookEvents, receiver: Receiver) -> WebhookDelivery:
    return WebhookDelivery(events, at(receiver), allow_private=True, now=utc_now)


async def all_events(pool: Pool) -> list[tuple[str, int, str, bool]]:
    """Kind, tries, outcome and whether more follows."""
    query = "SELECT kind, tries, outcome, due_time IS NOT NULL AS due FROM task_manager.webhook_event ORDER BY create_time, kind"
    async with transaction(pool) as connection:
        rows = await (await connection.execute(query)).fetchall()
    return [(row["kind"], row["tries"], row["outcome"], row["due"]) for row in rows]


async def make_due(pool: Pool) -> None:
    async with transaction(pool) as connection:
        await connection.execute("UPDATE task_manager.webhook_event SET due_time = now() WHERE due_time IS NOT NULL")


async def cancelled(owner: Owner) -> uuid.UUID:
    task = await owner.tasks.create(a_new_task())
    await owner.tasks.cancel(task.id, "")
    return task.id


async def test_without_a_webhook_nothing_is_written(pool: Pool) -> None:
    await cancelled(Owner(pool))

    assert await all_events(pool) == []


async def test_only_wanted_kinds_are_written_and_turning_off_drops_what_waits(pool: Pool, events: WebhookEvents) -> None:
    owner = Owner(pool)
    await events.configure(["task.cancelled", "task.failed"])
    await cancelled(owner)
    await events.configure(webhook.KINDS)
    await cancelled(owner)

    assert [kind for kind, *_ in await all_events(pool)] == ["task.cancelled", "task.queued", "task.cancelled"]

    await events.configure([])
    await cancelled(owner)
    assert await all_events(pool) == []


async def test_a_change_that_is_rolled_back_tells_nobody(pool: Pool, events: WebhookEvents) -> None:
    owner = Owner(pool)
    await events.configure(webhook.ENDS)
    claim = (await owner.claimed()).claim
    with pytest.raises(RuntimeError):
        async with transaction(pool) as connection:
            await connection.execute("UPDATE task_manager.task SET state = 'CANCELLING' WHERE id = %(id)s", {"id": claim.task_id})
            await connection.execute(
                "UPDATE task_manager.task SET state = 'CANCELLED', end_time = now() WHERE id = %(id)s", {"id": claim.task_id}
            )
            raise RuntimeError
    assert await all_events(pool) == []

    await owner.claims.finish(claim, Change(State.FAILED, "it broke", error=b""))
    assert [kind for kind, *_ in await all_events(pool)] == ["task.failed"]


async def test_failures_are_repeated_with_the_same_id_until_they_are_heard(
    pool: Pool, events: WebhookEvents, delivery: WebhookDelivery, receiver: Receiver
) -> None:
    await events.configure(webhook.ENDS)
    task_id = await cancelled(Owner(pool))
    receiver.answers = [(500, ""), (307, "http://127.0.0.1:1/"), (204, "")]

    await delivery.round()
    assert await all_events(pool) == [("task.cancelled", 1, "HTTP 500", True)]
    await delivery.round()
    assert len(receiver.requests) == 1, "it rests"
    for _ in range(3):
        await make_due(pool)
        await delivery.round()

    assert await all_events(pool) == [("task.cancelled", 3, "HTTP 204", False)]
    assert len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == 1
    assert [headers["tunesmith-delivery-try"] for _, headers, _ in receiver.requests] == ["1", "2", "3"]
    for _, headers, content in receiver.requests:
        assert json.loads(content)["data"]["name"] == f"tasks/{task_id}"
        expected = webhook.sign(headers["webhook-id"], int(headers["webhook-timestamp"]), content, KEY)
        assert headers["webhook-signature"] == expected


async def test_it_is_given_up_after_seven_tries_and_at_once_when_the_receiver_is_gone(
    pool: Pool, events: WebhookEvents, delivery: WebhookDelivery, receiver: Receiver
) -> None:
    await events.configure(webhook.ENDS)
    await cancelled(Owner(pool))
    receiver.answers = [(503, "")]
    for _ in range(9):
        await make_due(pool)
        await delivery.round()
    assert await all_events(pool) == [("task.cancelled", 7, "HTTP 503", False)]

    receiver.answers = [(410, "")]
    await cancelled(Owner(pool))
    await delivery.round()
    assert (await all_events(pool))[-1] == ("task.cancelled", 1, "HTTP 410", False)


async def test_several_task_managers_deliver_each_event_once(
    pool: Pool, events: WebhookEvents, delivery: WebhookDelivery, receiver: Receiver
) -> None:
    await events.configure(webhook.ENDS)
    owner = Owner(pool)
    for _ in range(25):
        await cancelled(owner)

    await asyncio.gather(*(delivery.round() for _ in range(3)))

    assert len(receiver.requests) == len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == 25


async def test_an_event_whose_deliverer_was_killed_is_due_again_and_a_late_word_of_it_counts_no_more(
    pool: Pool, events: WebhookEvents
) -> None:
    await events.configure(webhook.ENDS)
    await cancelled(Owner(pool))
    (lost,) = await events.take(10, datetime.timedelta())
    (again,) = await events.take(10, SOON)
    assert (again.id, again.tries) == (lost.id, 2)
    assert await events.take(10, SOON) == []

    await events.record(lost, "late", None)
    assert await all_events(pool) == [("task.cancelled", 2, "", True)]
    await events.record(again, "HTTP 200", None)
    await events.tidy()
    assert await all_events(pool) == [("task.cancelled", 2, "HTTP 200", False)]


async def test_a_whole_task_manager_tells_of_ends_of_tasks_and_artifacts(
    pool: Pool, postgres_dsn: str, storage: FakeStorage, storage_address: str, trainer: FakeTrainer, receiver: Receiver
) -> None:
    storage.notices.append(a_notice(days=7))
    told = {"webhook_url": Secret(f"http://127.0.0.1:{receiver.port}/x"), "webhook_secret": Secret(SECRET)}
    settings = make_settings(
        postgres_dsn,
        storage_address,
        (trainer.address,),
        **told,
        webhook_allow_http=True,
        webhook_allow_private=True,
        webhook_artifact_interval=datetime.timedelta(milliseconds=50),
    )
    async with platform_of(settings, trainer) as manager:
        name = await _succeeded(manager)

        async def heard() -> list[bytes] | None:
            return [content for _, _, content in receiver.requests] or None

        (content,) = await eventually(heard, "the receiver is told")
        await eventually(WebhookEvents(pool).heard, "announcements are asked for")
        storage.notices.append(a_notice(days=3))

        async def heard_more() -> list[bytes] | None:
            return [content for _, _, content in receiver.requests[1:]] or None

        (more,) = await eventually(heard_more, "the receiver is told of the artifact")
    assert (json.loads(more)["type"], json.loads(more)["data"]["days"]) == ("artifact.expiring", 3)
    assert json.loads(content)["type"] == "task.succeeded"
    assert json.loads(content)["data"] == {"object": "task", "name": name, "attempt": 1}


def a_notice(days: int) -> ArtifactNotice:
    names = {"artifact": f"artifacts/{uuid.uuid4()}", "task": f"tasks/{uuid.uuid4()}"}
    return ArtifactNotice(kind=ArtifactNotice.EXPIRING, days=days, **names)


async def _succeeded(manager: Platform) -> str:
    task = await manager.create()
    await (await manager.run_of(task)).succeed()
    return task.name


async def test_announcements_about_artifacts_are_written_once_and_only_when_they_are_wanted(
    pool: Pool, events: WebhookEvents, delivery: WebhookDelivery, receiver: Receiver
) -> None:
    notices = [webhook.ArtifactNotice("artifact.expiring", uuid.uuid4(), uuid.uuid4(), days, utc_now()) for days in (7, 3)]
    damage = webhook.ArtifactNotice("artifact.damaged", uuid.uuid4(), uuid.uuid4(), 0, utc_now())
    await events.configure(["artifact.expiring"])
    assert await events.heard() is None
    await events.hear(None, 5, ())
    await events.hear(5, 8, [*notices, damage])
    await events.hear(5, 8, [*notices, damage])  # somebody else had read the same page
    assert await events.heard() == 8
    assert [kind for kind, *_ in await all_events(pool)] == ["artifact.expiring"] * 2

    await delivery.round()
    told = [json.loads(content)["data"] for _, _, content in receiver.requests]
    assert {(data["name"], data["days"]) for data in told} == {(f"artifacts/{each.artifact}", each.days) for each in notices}

    await events.configure([])
    assert await events.heard() is None, "who turns it on again begins anew"
