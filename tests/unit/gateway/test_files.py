"""Files are datasets: uploaded piece by piece, listed by keyset, and the results of a job written from its metrics."""

import uuid

import pytest

from services.gateway import identifiers
from tests.fake_platform import NOW, a_run
from tunesmith.v1.dataset_pb2 import Dataset
from tunesmith.v1.task_event_pb2 import StepMetrics, TaskEvent, TrainingStarted

FILES = "/v1/files"
ROW = b'{"messages": []}\n'


def upload(http, body: bytes = ROW, name: str = "train.jsonl", **fields):
    return http.post(FILES, files={"file": (name, body)}, data={"purpose": "fine-tune", **fields})


async def test_an_upload_is_a_dataset_of_that_name(http, platform) -> None:
    answer = await upload(http)
    (dataset,) = platform.datasets.stored
    (header, body) = platform.datasets.uploads[0]
    file = answer.json()
    ours = file.pop("tunesmith")
    assert (header.display_name, header.request_id, body) == ("train.jsonl", "", ROW)
    assert file == {
        "id": identifiers.file_id(dataset.name),
        "object": "file",
        "bytes": len(ROW),
        "created_at": NOW.seconds,
        "expires_at": None,
        "filename": "train.jsonl",
        "purpose": "fine-tune",
        "status": "processed",
        "status_details": None,
    }
    assert (ours["dataset"], ours["example_count"]) == (dataset.name, 1)


async def test_fields_may_come_behind_the_file(http, platform) -> None:
    form = b"--b\r\n" + _file(ROW) + b"\r\n--b\r\n" + _field("purpose", b"fine-tune") + b"\r\n--b--\r\n"
    answer = await http.post(FILES, content=form, headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 200, answer.text
    assert platform.datasets.uploads[0][1] == ROW


async def test_a_repeat_under_one_key_has_one_request_id(http, platform) -> None:
    for _ in range(2):
        await http.post(FILES, files={"file": ROW}, data={"purpose": "fine-tune"}, headers={"idempotency-key": "k"})
    first, second = (header.request_id for header, _ in platform.datasets.uploads)
    assert first == second == str(uuid.UUID(first))


async def test_bad_rows_are_told_as_storage_tells_them(http, platform) -> None:
    answer = await upload(http, b'{"messages": [{"role": "assistent"}]}\n')
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "dataset_invalid", "line 1: messages[1].role")
    assert "1 row is bad" in error["message"]


@pytest.mark.parametrize("purpose", ["", "assistants", "vision", "fine-tune-results", "batch_output"])
async def test_only_training_data_is_stored(http, platform, purpose: str) -> None:
    answer = await upload(http, purpose=purpose)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "purpose")
    assert platform.datasets.stored == []


async def test_a_wrong_purpose_behind_the_file_ends_the_upload_before_it_counts(http, platform) -> None:
    form = b"--b\r\n" + _file(ROW) + b"\r\n--b\r\n" + _field("purpose", b"vision") + b"\r\n--b--\r\n"
    answer = await http.post(FILES, content=form, headers={"content-type": "multipart/form-data; boundary=b"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "purpose")
    assert platform.datasets.uploads == []


async def test_a_file_may_end_by_itself_wherever_in_the_form_that_is_said(http, platform) -> None:
    expiry = [_field("expires_after[anchor]", b"created_at"), _field("expires_after[seconds]", b"3600")]
    parts = [_file(ROW), _field("purpose", b"fine-tune"), *expiry]
    for order in (parts, parts[::-1]):
        form = b"".join(b"--b\r\n" + part + b"\r\n" for part in order) + b"--b--\r\n"
        answer = await http.post(FILES, content=form, headers={"content-type": "multipart/form-data; boundary=b"})
        assert answer.json()["expires_at"] == NOW.seconds + 3600


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"expires_after[anchor]": "created_at"}, "expires_after.seconds"),
        ({"expires_after[seconds]": "3600"}, "expires_after.anchor"),
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after.anchor"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"}, "expires_after.seconds"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "2592001"}, "expires_after.seconds"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "an hour"}, "expires_after.seconds"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_an_expiry_that_cannot_be_is_refused_and_leaves_nothing(http, platform, fields: dict, parameter: str) -> None:
    answer = await upload(http, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, parameter)
    assert platform.datasets.stored == []


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"", 415),
        ("multipart/form-data; boundary=b", b"", 400),
        ("multipart/form-data; boundary=b", b"not a form", 400),
        ("multipart/form-data; boundary=b", b"--b\r\nno header\r\n\r\nx\r\n--b--\r\n", 400),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--b--\r\n',
            400,
        ),
        ("multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\ncut', 400),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--b--\r\n',
            400,
        ),
        (
            "multipart/form-data; boundary=b",
            b"".join(b'--b\r\ncontent-disposition: form-data; name="x"\r\n\r\n1\r\n' for _ in range(99)),
            400,
        ),
        ("multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; name="x"\r\n\r\n' + b"1" * 70_000, 400),
    ],
    ids=["json", "no boundary", "empty", "no form", "bad header", "no file", "cut off", "no name", "many fields", "long field"],
)
async def test_a_broken_form_is_refused_and_leaves_nothing(http, platform, content_type: str, body: bytes, status: int) -> None:
    answer = await http.post(FILES, content=body, headers={"content-type": content_type})
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert platform.datasets.uploads == []


async def test_two_files_are_one_too_many(http, platform) -> None:
    answer = await http.post(FILES, files=[("file", ("a", ROW)), ("file", ("b", ROW))], data={"purpose": "fine-tune"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")


async def test_a_file_above_the_limit_is_refused(changed, platform) -> None:
    async with changed(max_file_bytes=100_000) as http:
        assert (await upload(http, b" " * 90_000)).status_code == 200
        answer = await upload(http, b" " * 300_000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert len(platform.datasets.uploads) == 1


async def test_content_is_the_bytes_as_uploaded(http, platform) -> None:
    dataset = platform.datasets.add(b"0123456789abc\n")
    answer = await http.get(f"{FILES}/{identifiers.file_id(dataset.name)}/content")
    assert (answer.content, answer.headers["content-length"]) == (b"0123456789abc\n", "14")


async def test_a_file_is_retrieved_and_deleted(http, platform) -> None:
    dataset = platform.datasets.add(format=Dataset.CHAT)
    path = f"{FILES}/{identifiers.file_id(dataset.name)}"
    assert (await http.get(path)).json()["tunesmith"]["format"] == "chat"
    assert (await http.delete(path)).json() == {"id": path.rpartition("/")[2], "object": "file", "deleted": True}
    assert (await http.get(path)).status_code == 404


async def test_a_file_in_use_stays(http, platform) -> None:
    dataset = platform.datasets.add()
    platform.datasets.in_use.add(dataset.name)
    answer = await http.delete(f"{FILES}/{identifiers.file_id(dataset.name)}")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (409, "false")


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_hold_every_file_once_while_new_ones_arrive(http, platform, limit: int, order: str) -> None:
    expected = [identifiers.file_id(platform.datasets.add(b"%d" % number).name) for number in range(5)]
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await http.get(FILES, params={"limit": limit, "order": order, **after})).json()
        found += [file["id"] for file in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
        if order == "desc":
            platform.datasets.add(b"another")
    assert found == (expected if order == "asc" else expected[::-1])


async def test_other_purposes_have_no_files_and_results_are_not_listed(http, platform) -> None:
    platform.datasets.add()
    assert (await http.get(FILES, params={"purpose": "batch"})).json()["data"] == []
    assert (await http.get(FILES, params={"purpose": "fine-tune-results"})).json()["error"]["param"] == "purpose"


@pytest.mark.parametrize(
    "query", [{"after": "file-x"}, {"after": f"file-{uuid.UUID(int=1).hex}"}, {"order": "up"}, {"limit": "10001"}], ids=str
)
async def test_a_bad_query_is_named(http, platform, query: dict) -> None:
    platform.datasets.add()
    answer = await http.get(FILES, params=query)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["message"]


async def test_the_results_of_a_job_are_csv(http, platform) -> None:
    task = platform.tasks.add(events=a_run(steps=2))
    identifier = identifiers.results_id(task.name)
    text = (await http.get(f"{FILES}/{identifier}/content")).text
    assert text == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,3.0,,,\n2,1.5,,,\n"
    file = (await http.get(f"{FILES}/{identifier}")).json()
    assert (file["purpose"], file["bytes"], file["id"]) == ("fine-tune-results", len(text), identifier)
    assert (await http.delete(f"{FILES}/{identifier}")).status_code == 400


async def test_results_tell_every_step_once_with_all_that_was_measured(http, platform) -> None:
    facts = [(1, {"loss": 2.0, "token_accuracy": 0.5}), (1, {"eval_loss": 3.0}), (2, {"loss": 1.0}), (2, {"loss": 1.0})]
    events = [
        TaskEvent(sequence=number, step_metrics=StepMetrics(step=step, values=values))
        for number, (step, values) in enumerate([*facts, (1, {"loss": 2.0}), (3, {"loss": float("nan")})], start=1)
    ]
    task = platform.tasks.add(events=events)
    text = (await http.get(f"{FILES}/{identifiers.results_id(task.name)}/content")).text
    assert text.splitlines()[1:] == ["1,2.0,0.5,3.0,", "2,1.0,,,", "3,nan,,,"]


def started(attempt: int, resumed: int) -> dict:
    return {"attempt": attempt, "training_started": TrainingStarted(resumed_step=resumed)}


def measured(attempt: int, step: int, **values: float) -> dict:
    return {"attempt": attempt, "step_metrics": StepMetrics(step=step, values=values)}


async def csv_of(http, platform, *facts: dict) -> list[str]:
    task = platform.tasks.add(events=[TaskEvent(sequence=n, **fact) for n, fact in enumerate(facts, start=1)])
    return (await http.get(f"{FILES}/{identifiers.results_id(task.name)}/content")).text.splitlines()[1:]


async def test_results_are_the_curve_of_the_run_that_counts(http, platform) -> None:
    """The second attempt went on from step 2, the third from step 1: of the first only step 1 counts, of the second nothing."""
    lines = await csv_of(
        http,
        platform,
        started(1, 0),
        *(measured(1, step, loss=1.0) for step in (1, 2, 3, 4)),
        measured(1, 4, eval_loss=1.5),
        started(2, 2),
        *(measured(2, step, loss=2.0) for step in (3, 4, 5)),
        started(3, 1),
        measured(3, 2, loss=3.0),
        measured(3, 3, loss=3.5),
    )
    assert lines == ["1,1.0,,,", "2,3.0,,,", "3,3.5,,,"]


async def test_results_of_a_run_that_began_anew_have_nothing_of_the_one_before(http, platform) -> None:
    before = [started(1, 0), measured(1, 1, loss=1.0), measured(1, 2, loss=1.0)]
    assert await csv_of(http, platform, *before, started(2, 0), measured(2, 1, loss=2.0)) == ["1,2.0,,,"]
    assert await csv_of(http, platform, *before, started(2, 0)) == []


async def test_results_of_a_resumed_run_keep_what_was_measured_up_to_its_checkpoint(http, platform) -> None:
    lines = await csv_of(
        http,
        platform,
        started(1, 0),
        measured(1, 1, loss=1.0),
        measured(1, 2, loss=1.5, eval_loss=2.5),
        started(2, 2),
        measured(2, 3, loss=2.0),
    )
    assert lines == ["1,1.0,,,", "2,1.5,,2.5,", "3,2.0,,,"]


async def test_results_of_no_job_are_not_found(http) -> None:
    path = f"{FILES}/{identifiers.results_id(f'tasks/{uuid.uuid4()}')}"
    assert [(await http.get(each)).status_code for each in (path, path + "/content")] == [404, 404]


def _field(name: str, value: bytes) -> bytes:
    return b'content-disposition: form-data; name="%s"\r\n\r\n%s' % (name.encode(), value)


def _file(body: bytes) -> bytes:
    return b'content-disposition: form-data; name="file"; filename="train.jsonl"\r\ncontent-type: x/y\r\n\r\n' + body
