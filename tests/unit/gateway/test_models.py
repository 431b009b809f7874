"""Models: base, registered and tuned, under the names OpenAI's clients use."""

import uuid

from services.gateway import identifiers
from tests.fake_platform import NOW
from tunesmith.v1.artifact_service_pb2 import ExportArtifactRequest
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import FineTuning, TaskSpec

MODELS = "/v1/models"
SPEC = TaskSpec(fine_tuning=FineTuning(base_model="baseModels/tiny"))
DAY = 86_400


def tuned(platform, *, kept: bool = True, pinned: bool = False, labels: dict | None = None) -> str:
    artifact = platform.artifacts.add({"a": b"1"}, pinned=pinned, expire_time={"seconds": NOW.seconds + 15 * DAY})
    task = platform.tasks.add(spec=SPEC, artifact=artifact.name, labels=labels or {})
    if not kept:
        platform.artifacts.stored.remove(artifact)
    return f"ft:tiny:tunesmith:{(labels or {}).get('openai.suffix', '')}:{uuid.UUID(task.name[6:]).hex}"


async def test_the_list_has_base_tuned_and_registered_models(http, platform) -> None:
    one, two = tuned(platform, labels={"openai.suffix": "one"}), tuned(platform)
    tuned(platform, kept=False)
    platform.tasks.add(state=Task.RUNNING, spec=SPEC)
    platform.artifacts.ExportArtifact(ExportArtifactRequest(name=platform.artifacts.stored[0].name, model="models/support"), None)
    models = (await http.get(MODELS)).json()
    found = {model["id"] for model in models["data"]}
    assert models["object"] == "list"
    assert {one, two, "models/support"} <= found
    assert len([each for each in found if each.startswith("ft:")]) == 2


async def test_a_tuned_model_tells_when_it_ends(http, platform) -> None:
    name = tuned(platform)
    model = (await http.get(f"{MODELS}/{name}")).json()
    assert model == {
        "id": name,
        "object": "model",
        "created": NOW.seconds,
        "owned_by": "tunesmith",
        "shutdown_date": "2027-01-30",
    }
    listed = {each["id"]: each for each in (await http.get(MODELS)).json()["data"]}
    assert listed[name] == model


async def test_a_pinned_model_does_not_end(http, platform) -> None:
    assert (await http.get(f"{MODELS}/{tuned(platform, pinned=True)}")).json()["shutdown_date"] is None


async def test_names_with_a_slash_are_found(http, platform) -> None:
    tuned(platform)
    platform.artifacts.ExportArtifact(ExportArtifactRequest(name=platform.artifacts.stored[0].name, model="models/support"), None)
    for name in ("models/support", "models%2Fsupport", "models/support@1"):
        answer = await http.get(f"{MODELS}/{name}")
        assert answer.json()["id"] == name.replace("%2F", "/")


async def test_what_has_ended_or_never_was_is_not_found(http, platform) -> None:
    running = platform.tasks.add(state=Task.RUNNING, spec=SPEC)
    unfinished = identifiers.tuned_model_id("tiny", "o", "", running.name)
    never = identifiers.tuned_model_id("tiny", "o", "", f"tasks/{uuid.uuid4()}")
    for name in (tuned(platform, kept=False), unfinished, "ft:x"):
        answer = await http.get(f"{MODELS}/{name}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert answer.json()["error"]["param"] == "model"
    assert (await http.get(f"{MODELS}/{never}")).status_code == 404


async def test_of_a_registered_model_a_version_is_deleted(http, platform) -> None:
    tuned(platform)
    platform.artifacts.ExportArtifact(ExportArtifactRequest(name=platform.artifacts.stored[0].name, model="models/support"), None)
    answer = await http.delete(f"{MODELS}/models/support")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "model_not_deletable")
    assert answer.headers["x-should-retry"] == "false"
    answer = await http.delete(f"{MODELS}/models/support@1")
    assert answer.json() == {"id": "models/support@1", "object": "model", "deleted": True}
    assert platform.artifacts.exported == {}


async def test_a_tuned_model_is_ended_and_then_not_found(http, platform) -> None:
    name = tuned(platform, pinned=True)
    (artifact,) = platform.artifacts.stored
    assert (await http.delete(f"{MODELS}/{name}")).json() == {"id": name, "object": "model", "deleted": True}
    assert artifact.reason == "deleted through the gateway"
    assert (await http.get(f"{MODELS}/{name}")).status_code == 404
    assert (await http.delete(f"{MODELS}/{name}")).status_code == 404


async def test_a_checkpoint_is_not_the_model_it_leads_to(http, platform) -> None:
    name = identifiers.checkpoint_model_id(tuned(platform), 5)
    for method in ("GET", "DELETE"):
        answer = await http.request(method, f"{MODELS}/{name}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert len(platform.artifacts.stored) == 1
