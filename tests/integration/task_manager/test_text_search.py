"""Texts are found by the index of their parts as they are found without it, and the index is asked for rare ones alone."""

import dataclasses
from collections.abc import Sequence

import pytest
from integration.task_manager.test_repositories import Owner, a_new_task

from services.common.postgres import Pool, transaction
from services.task_manager import text_search
from services.task_manager.domain.task import State, TaskUpdate
from services.task_manager.domain.task_filter import TaskFilter
from services.task_manager.filtered_totals import Total
from services.task_manager.task_conditions import conditions
from services.task_manager.task_listing import TaskListing

pytestmark = pytest.mark.integration

TEXTS = [
    ("Night run", ""),
    ("a", "the night after"),
    ("knight", "ÜBER Größe 夜間学習"),
    ("nigh t", "igh ght"),
    ("100% _a\\b'", "ab"),
]
LOOKED_FOR = ["night", "NIGHT", "igh", "ht r", "über", "größe", "間学習", "% _a\\", "b'", "ab", "a", "nightx", "thgin", "n\nt"]
SHORT = ["g", "G", "gh", "ft", "ü", "Ü", "ße", "夜", "間学", " ", "\\", "'", "% ", "0%", "z", "zz", "tn", "b'", "学習"]


async def create(owner: Owner, texts: Sequence[tuple[str, str]]) -> None:
    for name, description in texts:
        await owner.tasks.create(dataclasses.replace(a_new_task(), display_name=name, description=description))


async def found(pool: Pool, wanted: TaskFilter, *, by_index: bool) -> list[str]:
    condition, parameters = conditions(wanted, by_index=by_index)
    query = f"SELECT display_name FROM task_manager.task t WHERE {condition} ORDER BY display_name"
    async with transaction(pool) as connection:
        return [row["display_name"] for row in await (await connection.execute(query.encode(), parameters)).fetchall()]


async def test_the_index_finds_what_is_found_without_it(pool: Pool) -> None:
    await create(Owner(pool), TEXTS)
    for text in LOOKED_FOR + SHORT:
        for wanted in (
            TaskFilter(text=text),
            TaskFilter(display_name_contains=text),
            TaskFilter(text=text, display_name_contains="n"),
        ):
            plain = await found(pool, wanted, by_index=False)
            assert await found(pool, wanted, by_index=True) == plain, wanted
    assert await found(pool, TaskFilter(text="night"), by_index=True) == ["Night run", "a", "knight"]
    assert await found(pool, TaskFilter(text="間学習"), by_index=True) == ["knight"]
    assert await found(pool, TaskFilter(text="間"), by_index=True) == ["knight"]
    assert await found(pool, TaskFilter(text="ab"), by_index=True) == ["100% _a\\b'"]


async def test_parts_of_one_two_and_three_characters_are_never_the_same_number(pool: Pool) -> None:
    texts = ["a", "b", "\x7f", "Ͽ", "aa", "ab", "\x01a", "ϿϾ", "aaa", "\x01\x01a", "ϿϿϾ", "abc"]
    numbers = "task_manager.text_parts(text) AS parts, task_manager.text_lookup(text) AS lookup"
    query = f"SELECT text, {numbers} FROM unnest(%s::text[]) AS text"
    async with transaction(pool) as connection:
        rows = await (await connection.execute(query.encode(), [texts])).fetchall()
    lookups = [number for row in rows for number in row["lookup"]]
    assert len(lookups) == len(set(lookups)) == len(texts), "each is one part, and no other's"
    assert all(0 <= number < 2**31 for row in rows for number in row["parts"])
    parts = {row["text"]: set(row["parts"]) for row in rows}
    assert parts["aa"] > parts["a"], "a text has the parts of what it contains"
    assert parts["abc"] > parts["ab"] | parts["b"]


async def test_what_is_called_otherwise_is_found_otherwise_and_what_is_gone_is_not(pool: Pool) -> None:
    owner = Owner(pool)
    await create(owner, [("before", "first")])
    (task,) = await TaskListing(pool).page(TaskFilter(text="before"), None, 2)
    await owner.tasks.update(task.id, TaskUpdate(display_name="after"))
    for text, names in (("before", []), ("after", ["after"]), ("first", ["after"])):
        assert await found(pool, TaskFilter(text=text), by_index=True) == names
    await owner.tasks.cancel(task.id, "")
    await owner.tasks.delete(task.id)
    assert await found(pool, TaskFilter(text="after"), by_index=True) == []
    async with transaction(pool) as connection:
        row = await (await connection.execute("SELECT count(*) AS rows FROM task_manager.task_text")).fetchone()
    assert row == {"rows": 0}


async def test_the_index_is_asked_for_what_few_tasks_contain(pool: Pool) -> None:
    owner = Owner(pool)
    await create(owner, [("common", "")] * 50 + [("rare", "")])
    async with transaction(pool) as connection:
        await connection.execute("ANALYZE task_manager.task")
        for wanted, asks in (
            (TaskFilter(text="rare"), True),
            (TaskFilter(display_name_contains="nothing"), True),
            (TaskFilter(text="common"), False),
            (TaskFilter(display_name_contains="common", text="rare"), True),
            (TaskFilter(text="ra"), True),
            (TaskFilter(text="o"), False),
            (TaskFilter(text="z"), True),
            (TaskFilter(), False),
        ):
            assert await text_search.asks_index(connection, wanted) is asks, wanted


async def test_pages_and_totals_are_of_the_text_whichever_way_it_is_found(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, listing = Owner(pool), TaskListing(pool)
    await create(owner, [*[("common", "")] * 3, ("rare", "")])
    for least in (0, 1_000):
        monkeypatch.setattr(text_search, "_RARE", least)
        for text, names in (("common", ["common"] * 3), ("rare", ["rare"]), ("nothing", []), ("o", ["common"] * 3)):
            assert [task.display_name for task in await listing.page(TaskFilter(text=text), None, 9)] == names
            assert await listing.totals(TaskFilter(text=text)) == ({State.QUEUED: Total(len(names))} if names else {})
