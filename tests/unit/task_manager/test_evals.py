"""What is refused of evals, by field, before anything is kept."""

import pytest

from services.common.errors import InvalidArgument
from services.task_manager.domain.eval import EvalUpdate, NewEval, check_new, check_update
from services.task_manager.eval_repository import EvalRepository
from services.task_manager.evals import Evals
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1.eval_pb2 import Eval

GOOD = {"display_name": "capitals", "data_source_config": "{}", "testing_criteria": "[]"}


@pytest.fixture
def evals() -> Evals:
    """Nothing that is asked here reaches the database."""
    return Evals(EvalRepository(pool=None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"display_name": ""}, "eval.display_name"),
        ({"display_name": "x" * 129}, "eval.display_name"),
        ({"data_source_config": ""}, "eval.data_source_config"),
        ({"data_source_config": "[]"}, "eval.data_source_config"),
        ({"data_source_config": '{"x": "' + "x" * 65_536 + '"}'}, "eval.data_source_config"),
        ({"data_source_config": "[" * 100_000}, "eval.data_source_config"),
        ({"testing_criteria": "{}"}, "eval.testing_criteria"),
        ({"testing_criteria": "[" * 10_000}, "eval.testing_criteria"),
        ({"labels": {"": "x"}}, "eval.labels['']"),
        ({"labels": {"k": "x" * 513}}, "eval.labels['k']"),
        ({"labels": {str(number): "" for number in range(65)}}, "eval.labels"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
async def test_a_bad_eval_is_refused_by_field(evals, facts: dict, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await evals.create(api.CreateEvalRequest(eval=Eval(**{**GOOD, **facts})))
    assert [violation.field for violation in caught.value.violations] == [field]


async def test_everything_that_is_wrong_is_told_at_once(evals) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await evals.create(api.CreateEvalRequest())
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["eval.display_name", "eval.data_source_config", "eval.testing_criteria"]


@pytest.mark.parametrize("paths", [[], ["testing_criteria"], ["display_name", "name"]], ids=["none", "criteria", "name"])
async def test_only_name_and_labels_can_be_changed(evals, paths: list[str]) -> None:
    request = api.UpdateEvalRequest(eval=Eval(display_name="x"))
    request.update_mask.paths.extend(paths)
    with pytest.raises(InvalidArgument, match="display_name, labels"):
        await evals.update(request)


async def test_a_new_name_is_checked_as_the_first_one(evals) -> None:
    request = api.UpdateEvalRequest(eval=Eval(display_name=" "))
    request.update_mask.paths.append("display_name")
    with pytest.raises(InvalidArgument, match="is required"):
        await evals.update(request)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (api.CreateEvalRequest(eval=Eval(**GOOD), request_id="x"), "request_id"),
        (api.ListEvalsRequest(page_size=-1), "page_size"),
        (api.ListEvalsRequest(page_token="x"), "page_token"),
    ],
    ids=["request_id", "page_size", "page_token"],
)
async def test_a_bad_request_is_refused(evals, request_, field: str) -> None:
    ask = evals.create if isinstance(request_, api.CreateEvalRequest) else evals.page
    with pytest.raises(InvalidArgument) as caught:
        await ask(request_)
    assert caught.value.violations[0].field == field


async def test_a_name_of_another_kind_is_refused(evals) -> None:
    for ask in (evals.get, evals.delete):
        with pytest.raises(InvalidArgument, match="evals/"):
            await ask("tasks/0c3f9b52-7d0f-4a3c-9d0c-2f1f0a4b7f11")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("null", "is not a JSON object"),
        ("[]", "is not a JSON object"),
        ('"x"', "is not a JSON object"),
        ('{"a": "b\0"}', "is not JSON"),
        ("{" + " " * 65_536 + "}", "65,538 characters; at most 65,536"),
    ],
    ids=["empty", "cut", "null", "array", "text", "nul", "long"],
)
def test_what_a_config_may_not_be(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem) as caught:
        check_new(NewEval("x", text, "[]", {}))
    assert {violation.field for violation in caught.value.violations} == {"eval.data_source_config"}


@pytest.mark.parametrize(
    "config", ["{}", '{"a": [1, null]}', " {} ", "{" + " " * 65_534 + "}"], ids=["none", "some", "spaces", "long"]
)
def test_a_sensible_eval_passes(config: str) -> None:
    check_new(NewEval("x", config, "[" + " " * 262_142 + "]", {"k" * 64: "v" * 512}))


def test_an_update_that_changes_nothing_is_fine_and_a_bad_one_names_all_that_is_wrong() -> None:
    check_update(EvalUpdate(None, None))
    check_update(EvalUpdate("x", {}))
    with pytest.raises(InvalidArgument) as caught:
        check_update(EvalUpdate("a\0", {"": "x", "k": "\0"}))
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["eval.display_name", "eval.labels['']", "eval.labels['k']"]
