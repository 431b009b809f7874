"""What storage announces about artifacts becomes events of the webhook, once each."""

import datetime
import json
import uuid
from collections.abc import Sequence

import grpc
import pytest
from unit.task_manager.test_webhook import NOW

from services.common.errors import Unavailable
from services.task_manager.artifact_news import ArtifactNews
from services.task_manager.artifact_notices_grpc import GrpcArtifactNotices
from services.task_manager.domain import webhook
from services.task_manager.domain.webhook import ArtifactNotice, WebhookEvent
from tunesmith.v1 import artifact_service_pb2, artifact_service_pb2_grpc

PAGE = 2
ARTIFACT, TASK = uuid.UUID(int=7), uuid.UUID(int=8)


def a_notice(days: int) -> ArtifactNotice:
    return ArtifactNotice("artifact.expiring", ARTIFACT, TASK, days, NOW)


class Storage:
    """Announcements by number, `PAGE` at a time."""

    def __init__(self, *days: int) -> None:
        self.notices = [a_notice(each) for each in days]
        self.away = False

    async def after(self, sequence: int) -> tuple[Sequence[ArtifactNotice], int]:
        if self.away:
            raise Unavailable("STORAGE_UNAVAILABLE", "it is away")
        page = self.notices[sequence : sequence + PAGE]
        return page, sequence + len(page)


class Events:
    """What WebhookEvents does, in memory."""

    def __init__(self) -> None:
        self.last: int | None = None
        self.written: list[int] = []

    async def heard(self) -> int | None:
        return self.last

    async def hear(self, before: int | None, last: int, notices: Sequence[ArtifactNotice]) -> None:
        if self.last != before:
            return
        self.last = last
        self.written += [notice.days for notice in notices]


@pytest.fixture
def events() -> Events:
    return Events()


async def test_what_came_before_anybody_asked_is_not_told(events: Events) -> None:
    storage = Storage(7, 7, 7, 7, 7)
    news = ArtifactNews(storage, events)
    await news.round()
    assert (events.last, events.written) == (5, [])
    storage.notices += [a_notice(3), a_notice(1)]
    await news.round()
    assert events.written == [3, 1]


async def test_every_announcement_is_told_once_over_many_pages(events: Events) -> None:
    storage = Storage()
    news = ArtifactNews(storage, events)
    await news.round()
    storage.notices += [a_notice(days) for days in (7, 3, 1, 7, 3)]
    await news.round()
    await news.round()
    assert events.written == [7, 3, 1, 7, 3]


async def test_two_task_managers_tell_it_once(events: Events) -> None:
    storage = Storage()
    first, second = ArtifactNews(storage, events), ArtifactNews(storage, events)
    await first.round()
    storage.notices += [a_notice(days) for days in (7, 3, 1)]
    before = events.last
    await first.round()
    # The second has read the number before the first wrote.
    await events.hear(before, 2, storage.notices[:2])
    await second.round()
    assert events.written == [7, 3, 1]


async def test_storage_that_is_away_loses_nothing(events: Events) -> None:
    storage = Storage()
    news = ArtifactNews(storage, events)
    await news.round()
    storage.notices.append(a_notice(3))
    storage.away = True
    with pytest.raises(Unavailable):
        await news.round()
    storage.away = False
    await news.round()
    assert events.written == [3]


def said(**what: object) -> dict:
    event = WebhookEvent(uuid.UUID(int=1), str(what.pop("kind")), TASK, 0, NOW, 1, artifact=ARTIFACT, **what)
    return json.loads(webhook.body(event))


def test_the_body_of_an_end_that_is_near_tells_when() -> None:
    body = said(kind="artifact.expiring", days=3, expire_time=NOW + datetime.timedelta(days=3))
    assert body["type"] == "artifact.expiring"
    assert body["data"] == {
        "object": "artifact",
        "name": f"artifacts/{ARTIFACT}",
        "task": f"tasks/{TASK}",
        "days": 3,
        "expire_time": int(NOW.timestamp()) + 3 * 86400,
    }


def test_the_body_of_damage_has_no_days() -> None:
    assert said(kind="artifact.damaged")["data"] == {
        "object": "artifact",
        "name": f"artifacts/{ARTIFACT}",
        "task": f"tasks/{TASK}",
    }


def test_both_kinds_are_sent_unless_others_are_chosen() -> None:
    assert set(webhook.ARTIFACT_KINDS) < set(webhook.DEFAULT_KINDS) < set(webhook.KINDS)


class Announcements(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """One announcement of each kind, and one of a kind that is not known here."""

    async def ListArtifactNotices(
        self, request: artifact_service_pb2.ListArtifactNoticesRequest, context: object
    ) -> artifact_service_pb2.ListArtifactNoticesResponse:
        message = artifact_service_pb2.ArtifactNotice
        found = [
            message(sequence=n, kind=n, artifact=f"artifacts/{ARTIFACT}", task=f"tasks/{TASK}", days=3 if n == 1 else 0)
            for n in (1, 2, 99)
            if n > request.after_sequence
        ]
        last = found[-1].sequence if found else request.after_sequence
        return artifact_service_pb2.ListArtifactNoticesResponse(notices=found, last_sequence=last)


async def test_announcements_are_read_as_storage_tells_them() -> None:
    server = grpc.aio.server()
    artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(Announcements(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            notices, last = await GrpcArtifactNotices(channel).after(0)
            assert [(each.kind, each.days) for each in notices] == [("artifact.expiring", 3), ("artifact.damaged", 0), ("", 0)]
            assert {(each.artifact, each.task) for each in notices} == {(ARTIFACT, TASK)}
            assert last == 99
            assert await GrpcArtifactNotices(channel).after(99) == ([], 99)
    finally:
        await server.stop(None)
