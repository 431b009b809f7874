"""Evals in Postgres, through what the servicer calls."""

import asyncio
import json
import uuid

import pytest

from services.common.errors import InvalidArgument, NotFound
from services.task_manager.eval_repository import EvalRepository
from services.task_manager.evals import Evals
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1.eval_pb2 import Eval

pytestmark = pytest.mark.integration


@pytest.fixture
def evals(pool) -> Evals:
    return Evals(EvalRepository(pool))


def an_eval(name: str = "capitals", **facts) -> api.CreateEvalRequest:
    return api.CreateEvalRequest(
        eval=Eval(**{"display_name": name, "data_source_config": "{}", "testing_criteria": "[]", **facts})
    )


async def test_an_eval_is_kept_as_it_was_given_and_forgotten(evals) -> None:
    criteria = '[ {"name":  "same"} ]'
    made = await evals.create(an_eval(testing_criteria=criteria, labels={"team": "a"}))
    assert made.create_time.ToNanoseconds() == made.update_time.ToNanoseconds() > 0
    assert await evals.get(made.name) == await evals.get(made.name.removeprefix("evals/")) == made
    assert (made.display_name, made.testing_criteria, dict(made.labels)) == ("capitals", criteria, {"team": "a"})
    await evals.delete(made.name)
    for ask in (evals.get(made.name), evals.delete(made.name)):
        with pytest.raises(NotFound) as caught:
            await ask
        assert caught.value.reason == "EVAL_NOT_FOUND"


async def test_a_repeat_of_a_request_is_one_eval(evals) -> None:
    request = an_eval()
    request.request_id = str(uuid.uuid4())
    first = await evals.create(request)
    assert await evals.create(request) == first
    assert (await evals.create(an_eval())).name != first.name
    assert len((await evals.page(api.ListEvalsRequest())).evals) == 2


async def test_name_and_labels_change_alone(evals) -> None:
    made = await evals.create(an_eval(labels={"a": "1"}))
    request = api.UpdateEvalRequest(eval=Eval(name=made.name, display_name="towns", labels={"b": "2"}))
    request.update_mask.paths.append("display_name")
    named = await evals.update(request)
    assert (named.display_name, dict(named.labels)) == ("towns", {"a": "1"})
    assert named.update_time.ToNanoseconds() > made.update_time.ToNanoseconds()
    request.update_mask.paths[:] = ["labels"]
    assert dict((await evals.update(request)).labels) == {"b": "2"}
    request.eval.name = f"evals/{uuid.uuid4()}"
    with pytest.raises(NotFound):
        await evals.update(request)


@pytest.mark.parametrize("newest_first", [False, True], ids=["oldest", "newest"])
async def test_pages_follow_on_one_another(evals, newest_first: bool) -> None:
    made = [(await evals.create(an_eval(str(number)))).name for number in range(5)]
    request, found = api.ListEvalsRequest(page_size=2, newest_first=newest_first), []
    while True:
        page = await evals.page(request)
        found += [each.name for each in page.evals]
        if not (token := page.next_page_token):
            break
        request.page_token = token
    assert found == (made[::-1] if newest_first else made)
    other = api.ListEvalsRequest(page_token=request.page_token, newest_first=not newest_first)
    with pytest.raises(InvalidArgument):
        await evals.page(other)


async def test_repeats_at_the_same_time_are_one_eval(evals) -> None:
    request = an_eval()
    request.request_id = str(uuid.uuid4())
    made = await asyncio.gather(*(evals.create(request) for _ in range(8)))
    assert len({each.name for each in made}) == 1
    assert len((await evals.page(api.ListEvalsRequest())).evals) == 1


async def test_a_repeat_after_a_change_tells_the_eval_as_it_is(evals) -> None:
    request = an_eval()
    request.request_id = str(uuid.uuid4())
    made = await evals.create(request)
    change = api.UpdateEvalRequest(eval=Eval(name=made.name, display_name="towns"))
    change.update_mask.paths.append("display_name")
    changed = await evals.update(change)
    assert await evals.create(request) == changed


async def test_a_change_leaves_what_is_measured_and_the_place_in_the_list(evals) -> None:
    first, second = await evals.create(an_eval("a")), await evals.create(an_eval("b"))
    change = api.UpdateEvalRequest(eval=Eval(name=first.name, display_name="c", testing_criteria="[1]", labels={"x": ""}))
    change.update_mask.paths.extend(["display_name", "labels"])
    changed = await evals.update(change)
    assert (changed.testing_criteria, changed.create_time) == (first.testing_criteria, first.create_time)
    assert [each.name for each in (await evals.page(api.ListEvalsRequest())).evals] == [first.name, second.name]


async def test_long_texts_of_any_script_are_kept_as_they_are(evals) -> None:
    config = json.dumps({"ü": "日本" * 30_000}, ensure_ascii=False)
    criteria = json.dumps(["\\u0000 is an escape", "x" * 200_000])
    made = await evals.create(an_eval(data_source_config=config, testing_criteria=criteria))
    kept = await evals.get(made.name)
    assert (kept.data_source_config, kept.testing_criteria) == (config, criteria)


@pytest.mark.parametrize(
    ("size", "pages"), [(2, [2, 2]), (4, [4]), (3, [3, 1]), (0, [4])], ids=["even", "full", "rest", "default"]
)
async def test_a_page_that_is_the_last_says_so(evals, size: int, pages: list[int]) -> None:
    for number in range(4):
        await evals.create(an_eval(str(number)))
    found, request = [], api.ListEvalsRequest(page_size=size)
    while not found or request.page_token:
        page = await evals.page(request)
        found.append(len(page.evals))
        request.page_token = page.next_page_token
    assert found == pages


@pytest.mark.parametrize("newest_first", [False, True], ids=["oldest", "newest"])
async def test_a_page_goes_on_where_an_eval_is_gone_and_another_has_come(evals, newest_first: bool) -> None:
    made = [await evals.create(an_eval(str(number))) for number in range(4)]
    order = made[::-1] if newest_first else made
    request = api.ListEvalsRequest(page_size=2, newest_first=newest_first)
    request.page_token = (await evals.page(request)).next_page_token
    await evals.delete(order[1].name)
    await evals.create(an_eval("new"))
    assert [each.name for each in (await evals.page(request)).evals] == [each.name for each in order[2:]]


async def test_an_eval_outlives_no_deletion_and_its_request_may_be_used_again(evals) -> None:
    request = an_eval()
    request.request_id = str(uuid.uuid4())
    first = await evals.create(request)
    await evals.delete(first.name)
    second = await evals.create(request)
    assert second.name != first.name
    with pytest.raises(NotFound):
        await evals.get(first.name)
