"""Pages of several conditions are what a plain search of all tasks finds, whatever tasks, filter and size of the page are."""

import dataclasses
import datetime
import random
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from integration.task_manager.test_repositories import Owner, a_new_task
from psycopg.types.json import Jsonb

from services import task_manager
from services.common.postgres import Pool, migrate, open_pool, transaction
from services.task_manager import facet_search
from services.task_manager.domain.facets import needs_search
from services.task_manager.domain.task import State, TaskUpdate
from services.task_manager.domain.task_filter import Position, TaskFilter
from services.task_manager.task_listing import TaskListing

pytestmark = pytest.mark.integration

NOW = datetime.datetime(2026, 3, 1, 0, 30, tzinfo=datetime.UTC)
DATASETS = [uuid.UUID(int=1), uuid.UUID(int=2)]
WORDS = ["Night", "run", "of the", "search", "team", "größe", "夜間学習", "100%"]
STATES = [State.QUEUED, State.RUNNING, State.PAUSED, State.SUCCEEDED, State.FAILED, State.CANCELLED]
INSERT = """
INSERT INTO task_manager.task (id, display_name, description, labels, spec, effective_hyperparameters, processes, request_digest,
    state, error, artifact, create_time, end_time, base_model, method, tuning, creator, kind, datasets)
VALUES (%(id)s, %(display_name)s, %(description)s, %(labels)s, '', '', 1, '', 'QUEUED', NULL, '', %(create_time)s, NULL,
    %(base_model)s, %(method)s, %(tuning)s, %(creator)s, %(kind)s, %(datasets)s)
"""
MOVE = """
UPDATE task_manager.task SET state = %(state)s::task_manager.task_state,
    error = CASE WHEN %(state)s::text = 'FAILED' THEN ''::bytea END,
    artifact = CASE WHEN %(state)s::text = 'SUCCEEDED' THEN 'a' ELSE '' END,
    end_time = CASE WHEN %(state)s::text IN ('SUCCEEDED', 'FAILED', 'CANCELLED') THEN now() END
WHERE id = %(id)s
"""


@dataclasses.dataclass(frozen=True)
class Row:
    """What a task is found by."""

    id: uuid.UUID
    display_name: str
    description: str
    labels: dict[str, str]
    state: str
    create_time: datetime.datetime
    base_model: str
    method: str
    tuning: str
    creator: str
    kind: str
    datasets: list[uuid.UUID]

    @property
    def place(self) -> Position:
        """Where it stands among all."""
        return self.create_time, self.id

    def fits(self, wanted: TaskFilter) -> bool:
        """The model: every condition by itself, in Python."""
        name, text = self.display_name.lower(), wanted.text.lower()
        return all((
            not wanted.states or self.state in {state.value for state in wanted.states},
            wanted.display_name_contains.lower() in name,
            text in name or text in self.description.lower(),
            wanted.dataset is None or wanted.dataset in self.datasets,
            wanted.base_model in ("", self.base_model),
            not wanted.methods or self.method in wanted.methods,
            not wanted.tunings or self.tuning in wanted.tunings,
            not wanted.kinds or self.kind in wanted.kinds,
            wanted.labels.items() <= self.labels.items(),
            wanted.creator in ("", self.creator),
            wanted.from_create_time is None or self.create_time >= wanted.from_create_time,
            wanted.before_create_time is None or self.create_time < wanted.before_create_time,
        ))  # fmt: skip


def a_time(rng: random.Random) -> datetime.datetime:
    """Within nine days, often exactly at midnight or at the same second as another."""
    return NOW - datetime.timedelta(days=rng.randrange(9), seconds=rng.choice([0, 1, 1800, 1801, rng.randrange(86_400)]))


def a_row(rng: random.Random) -> Row:
    return Row(
        id=uuid.UUID(int=rng.getrandbits(128)),
        display_name=" ".join(rng.choices(WORDS, k=2)),
        description=" ".join(rng.choices(WORDS, k=rng.randrange(3))),
        labels={key: rng.choice("ab") for key in rng.sample(["team", "tier"], k=rng.randrange(3))},
        state=rng.choice(STATES).value,
        create_time=a_time(rng),
        base_model=rng.choice(["baseModels/x", "baseModels/y"]),
        method=rng.choice(["SFT", "DPO", "KTO"]),
        tuning=rng.choice(["LORA", "FULL"]),
        creator=rng.choice(["", "ann", "bob"]),
        kind=rng.choice(["FINE_TUNING", "EVALUATION"]),
        datasets=rng.sample(DATASETS, k=rng.randrange(3)),
    )


def a_filter(rng: random.Random) -> TaskFilter:
    """Of one to five conditions, such that no index has its tasks in order."""
    while True:
        conditions = {
            "states": rng.sample(STATES, k=rng.randrange(1, 4)),
            "display_name_contains": rng.choice(WORDS),
            "text": rng.choice([*WORDS, "NIGHT RUN", "of the search", "m Nig", "nothing like it"]),
            "dataset": rng.choice(DATASETS),
            "base_model": rng.choice(["baseModels/x", "baseModels/y", "baseModels/z"]),
            "methods": rng.sample(["SFT", "DPO", "KTO"], k=rng.randrange(1, 3)),
            "tunings": rng.sample(["LORA", "FULL"], k=rng.randrange(1, 3)),
            "kinds": rng.sample(["FINE_TUNING", "EVALUATION"], k=rng.randrange(1, 3)),
            "labels": {key: rng.choice("ab") for key in rng.sample(["team", "tier"], k=rng.randrange(1, 3))},
            "creator": rng.choice(["ann", "bob"]),
            "from_create_time": a_time(rng),
            "before_create_time": a_time(rng),
        }
        wanted = TaskFilter(**{name: conditions[name] for name in rng.sample(sorted(conditions), k=rng.randrange(1, 6))})
        if needs_search(wanted):
            return wanted


async def store(pool: Pool, rows: Sequence[Row]) -> None:
    """As they are; the table of permitted transitions is not asked."""
    async with transaction(pool) as connection:
        await connection.execute("ALTER TABLE task_manager.task DISABLE TRIGGER task_check")
        for row in rows:
            parameters = dataclasses.asdict(row) | {"labels": Jsonb(row.labels)}
            await connection.execute(INSERT.encode(), parameters)
            await connection.execute("INSERT INTO task_manager.event_head (task_id) VALUES (%(id)s)", parameters)
            await connection.execute(MOVE.encode(), parameters)
        await connection.execute("ALTER TABLE task_manager.task ENABLE TRIGGER task_check")


async def listed(pool: Pool, wanted: TaskFilter, size: int) -> list[uuid.UUID]:
    """Page after page, as ListTasks goes on."""
    found: list[uuid.UUID] = []
    after: Position | None = None
    while page := await TaskListing(pool).page(wanted, after, size):
        found += [task.id for task in page]
        after = page[-1].create_time, page[-1].id
        if len(page) < size:
            break
    return found


def searches(monkeypatch: pytest.MonkeyPatch) -> None:
    """No page is filled by the newest tasks alone."""
    monkeypatch.setattr(facet_search, "_WALK", facet_search._WALK.replace("LIMIT %(limit)s", "LIMIT least(0, %(limit)s)"))


@pytest.mark.parametrize(("seed", "by_index"), [(1, True), (2, True), (3, False)])
async def test_pages_are_what_a_plain_search_finds(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, seed: int, by_index: bool
) -> None:
    rng = random.Random(seed)
    rows = [a_row(rng) for _ in range(120)]
    await store(pool, rows)
    newest_first = sorted(rows, key=lambda row: row.place, reverse=True)
    if by_index:
        searches(monkeypatch)
    some = 0
    for _ in range(60):
        wanted, size = a_filter(rng), rng.choice([1, 2, 7, 50])
        expected = [row.id for row in newest_first if row.fits(wanted)]
        assert await listed(pool, wanted, size) == expected, (wanted, size)
        some += bool(expected)
    assert 10 < some < 60, "some find tasks, some do not"


async def found(pool: Pool, wanted: TaskFilter) -> list[str]:
    return [task.display_name for task in await TaskListing(pool).page(wanted, None, 9)]


async def test_what_changes_is_found_by_what_it_is_now(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    searches(monkeypatch)
    owner = Owner(pool)
    task = await owner.tasks.create(dataclasses.replace(a_new_task(), display_name="before", labels={"team": "a"}))

    async def finds(name: str, team: str, state: State) -> bool:
        return await found(pool, TaskFilter(text=name, labels={"team": team}, states=[state])) == [name]

    assert await finds("before", "a", State.QUEUED)
    assert not await finds("before", "a", State.CANCELLED)
    await owner.tasks.update(task.id, TaskUpdate(display_name="after", labels={"team": "b"}))
    assert await finds("after", "b", State.QUEUED)
    assert not await finds("after", "a", State.QUEUED)
    assert not await finds("before", "b", State.QUEUED)
    await owner.tasks.cancel(task.id, "")
    assert await finds("after", "b", State.CANCELLED)
    assert not await finds("after", "b", State.QUEUED)
    await owner.tasks.delete(task.id)
    assert not await finds("after", "b", State.CANCELLED)
    async with transaction(pool) as connection:
        row = await (await connection.execute("SELECT count(*) AS rows FROM task_manager.task_facet")).fetchone()
    assert row == {"rows": 0}


async def test_tasks_from_before_are_found_after_the_migration(
    empty_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches(monkeypatch)
    all_of_them = Path(task_manager.__file__).parent / "migrations"
    for file in all_of_them.glob("0[01]*.sql"):
        shutil.copy(file, tmp_path)
    for file in all_of_them.glob("02[012]_*.sql"):
        shutil.copy(file, tmp_path)
    await migrate(empty_dsn, "task_manager", tmp_path)
    rng = random.Random(7)
    rows = [a_row(rng) for _ in range(30)]
    async with open_pool(empty_dsn, application="test") as pool:
        await store(pool, rows)
        await migrate(empty_dsn, "task_manager", all_of_them)
        for state in (State.QUEUED, State.FAILED):
            wanted = TaskFilter(states=[state], tunings=["LORA"])
            expected = {row.id for row in rows if row.fits(wanted)}
            assert set(await listed(pool, wanted, 50)) == expected != set()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


async def test_what_never_meets_is_found_out_without_reading_tasks(pool: Pool) -> None:
    rng = random.Random(11)
    models = {"a": "baseModels/x", "b": "baseModels/y"}
    rows = [dataclasses.replace(a_row(rng), labels={"team": team}, base_model=models[team]) for team in "ab" * 150]
    await store(pool, rows)
    query, parameters = facet_search._search(TaskFilter(labels={"team": "a"}, base_model="baseModels/y"), None, 51)
    async with transaction(pool) as connection:
        await connection.execute("ANALYZE task_manager.task, task_manager.task_facet")
        cursor = await connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}".encode(), parameters)
        ((answer,),) = [row.values() for row in await cursor.fetchall()]
    used = list(nodes(answer[0]["Plan"]))
    assert "task_facet_keys" in {node.get("Index Name") for node in used}
    read = sum(node["Actual Rows"] * node["Actual Loops"] for node in used if node.get("Relation Name") == "task")
    assert read <= 2, "the oldest and the newest alone, for the days to look at"
