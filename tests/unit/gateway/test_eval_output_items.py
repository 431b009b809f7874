"""Output items are the rows of an evaluation, one for each item of the run."""

import pathlib

import pytest

from services.common.errors import InvalidArgument, Violation
from tests.unit.answering.fake_models import FakeModels
from tests.unit.gateway.eval_values import ALIKE, EVALS, JUDGE, SAME, a_source, finished, made_eval, made_run, recorded

TOO_LONG = InvalidArgument(Violation("messages", "too long"), reason="CONTEXT_LENGTH_EXCEEDED")
TOWNS = [{"item": {"town": f"t{number}", "answer": "even" if number % 2 == 0 else "odd"}} for number in range(1, 8)]


@pytest.fixture
def completed(http, platform, tmp_path: pathlib.Path):
    """The path of a completed run over seven items whose model always says `even`, but for the last, which has no answer."""

    async def completed(*criteria: dict, rule=lambda *_: "even") -> str:
        kept = await made_eval(http, testing_criteria=list(criteria) or [SAME])
        source = {"type": "file_content", "content": TOWNS}
        run = await made_run(http, kept, a_source(source=source, sampling_params={"max_completion_tokens": 7}))
        await finished(platform, tmp_path, FakeModels(rule, {7: [TOO_LONG]}))
        return f"{EVALS}/{kept['id']}/runs/{run['id']}/output_items"

    return completed


async def test_an_item_tells_what_was_asked_and_answered_and_what_it_was_worth(http, completed) -> None:
    path = await completed(SAME, ALIKE)
    first, second, *_, last = (await http.get(path)).json()["data"]
    run_id = path.split("/")[-2]
    digits = run_id.removeprefix("evalrun_")
    assert (first["id"], first["run_id"], first["eval_id"]) == (f"outputitem_{digits}_1", run_id, path.split("/")[3])
    assert (first["datasource_item_id"], first["datasource_item"]) == (1, TOWNS[0]["item"])
    assert (first["status"], second["status"], last["status"]) == ("fail", "pass", "error")
    assert first["results"] == [
        {"name": "same as known", "type": "string_check", "score": 0.0, "passed": False, "sample": None},
        {"name": "alike", "type": "text_similarity", "score": 0.0, "passed": False, "sample": None},
    ]
    assert second["sample"] == {
        "input": [{"role": "user", "content": "Where is t2?"}],
        "output": [{"role": "assistant", "content": "even"}],
        "finish_reason": "stop",
        "model": "tiny",
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8, "cached_tokens": 0},
        "error": None,
        "temperature": 0.0,
        "max_completion_tokens": 7,
        "top_p": 1.0,
        "seed": 44,
    }


async def test_an_item_without_an_answer_says_why(http, completed) -> None:
    last = (await http.get(await completed())).json()["data"][-1]
    assert last["sample"]["error"] == {"code": "context_length_exceeded", "message": "messages: too long"}
    assert (last["sample"]["output"], last["sample"]["finish_reason"]) == ([], "error")
    assert last["sample"]["usage"]["total_tokens"] == 0
    assert last["results"][0]["sample"] == {"error": {"code": "not_graded", "message": "messages: too long"}}


async def test_an_answer_that_a_judge_gives_no_number_is_an_error(http, completed) -> None:
    judge = {**JUDGE, "model": "baseModels/judge", "pass_threshold": 0}

    def rule(model: str, messages) -> str:
        return ("9" if "t1" in messages[-1]["content"] else "no") if model == "loaded/baseModels/judge" else "odd"

    first, second, *_ = (await http.get(await completed(judge, rule=rule))).json()["data"]
    assert (first["status"], first["results"][0]["score"], first["results"][0]["passed"]) == ("pass", 9.0, True)
    # The lowest number would be enough, but there is none.
    assert (second["status"], second["results"][0]["score"], second["results"][0]["passed"]) == ("error", 0.0, False)
    assert second["results"][0]["sample"]["error"]["message"] == "there is no number in 'no'"


async def test_every_item_is_found_by_its_id(http, completed) -> None:
    path = await completed()
    for item in (await http.get(path)).json()["data"]:
        assert (await http.get(f"{path}/{item['id']}")).json() == item


@pytest.mark.parametrize("identifier", ["outputitem_x", f"outputitem_{'0' * 32}_1", "LAST"])
async def test_what_is_no_item_of_the_run_is_not_found(http, completed, identifier: str) -> None:
    path = await completed()
    given = identifier.replace("LAST", path.split("/")[-2].replace("evalrun_", "outputitem_") + "_8")
    answer = await http.get(f"{path}/{given}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "output_item_not_found")


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7]),
        ({"order": "desc"}, [7, 6, 5, 4, 3, 2, 1]),
        ({"status": "pass"}, [2, 4, 6]),
        ({"status": "fail"}, [1, 3, 5]),
        ({"status": "fail", "order": "desc"}, [5, 3, 1]),
    ],
    ids=["asc", "desc", "pass", "fail", "fail-desc"],
)
async def test_pages_follow_on_one_another(http, completed, query: dict, rows: list[int]) -> None:
    path = await completed()
    for limit in (1, 2, 3, 7, 100):
        found, after, pages = [], {}, 0
        while True:
            page = (await http.get(path, params={"limit": limit, **query, **after})).json()
            found += [item["datasource_item_id"] for item in page["data"]]
            after, pages = {"after": page["last_id"]}, pages + 1
            if not page["has_more"]:
                break
        assert (found, pages) == (rows, -(-len(rows) // limit))


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"after": f"outputitem_{'0' * 32}_1"}, "after"),
        ({"after": "x"}, "after"),
        ({"limit": 0}, "limit"),
        ({"order": "x"}, "order"),
        ({"status": "error"}, "status"),
    ],
    ids=["other", "no-id", "limit", "order", "status"],
)
async def test_a_bad_page_is_refused(http, completed, query: dict, param: str) -> None:
    answer = await http.get(await completed(), params=query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_there_are_no_items_before_the_end(http) -> None:
    kept = await made_eval(http)
    run = await made_run(http, kept)
    path = f"{EVALS}/{kept['id']}/runs/{run['id']}/output_items"
    assert (await http.get(path)).json()["data"] == []
    assert (await http.get(f"{path}/{run['id'].replace('evalrun_', 'outputitem_')}_1")).status_code == 404


async def test_items_whose_artifact_has_ended_are_not_found(http, platform, completed) -> None:
    path = await completed()
    platform.artifacts.files.clear()
    for address in (path, f"{path}/{path.split('/')[-2].replace('evalrun_', 'outputitem_')}_1"):
        answer = await http.get(address)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "output_item_not_found")


async def test_calls_of_tools_in_recorded_answers_are_graded_and_told(http, platform, tmp_path: pathlib.Path) -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "odd", "arguments": "{}"}}]
    tools = {**SAME, "input": "{{sample.output_tools.0.function.name}}", "reference": "{{item.answer}}"}
    kept = await made_eval(http, testing_criteria=[tools])
    run = await made_run(http, kept, recorded({**TOWNS[0], "sample": {"output_tools": calls}}))
    await finished(platform, tmp_path, FakeModels(lambda *_: ""))
    (item,) = (await http.get(f"{EVALS}/{kept['id']}/runs/{run['id']}/output_items")).json()["data"]
    assert (item["status"], item["sample"]["finish_reason"]) == ("pass", "tool_calls")
    assert item["sample"]["output"] == [{"role": "assistant", "content": "", "tool_calls": calls}]


async def test_recorded_answers_were_asked_nothing(http, platform, tmp_path: pathlib.Path) -> None:
    kept = await made_eval(http)
    run = await made_run(http, kept, recorded({**TOWNS[0], "sample": {"output_text": "odd"}}))
    await finished(platform, tmp_path, FakeModels(lambda *_: ""))
    (item,) = (await http.get(f"{EVALS}/{kept['id']}/runs/{run['id']}/output_items")).json()["data"]
    assert (item["status"], item["sample"]["input"], item["sample"]["model"]) == ("pass", [], "")
    assert item["sample"]["output"] == [{"role": "assistant", "content": "odd"}]
    assert item["datasource_item"] == TOWNS[0]["item"]
