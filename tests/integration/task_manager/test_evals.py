"""Evals in Postgres, through what the servicer calls."""

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
