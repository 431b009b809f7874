"""Models: base, registered and tuned, under the names OpenAI's clients use."""

import uuid

from services.gateway import identifiers
from tests.fake_platform import NOW
from tunesmith.v1.artifact_service_pb2 import ExportArtifactRequest
from tunesmith.v1.task_manager_service_pb2 import Checkpoint
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
    return f"ft:tiny:tunesmith:{(labels or {}).get('openai.suffix', '')}:{uuid.UUID(task.name[6:]).hex[:8]}"


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


async def test_a_checkpoint_is_a_model_while_it_is_kept(http, platform) -> None:
    name = tuned(platform)
    (task,) = platform.tasks.stored
    kept = platform.artifacts.add({"a": b"2"}, expire_time={"seconds": NOW.seconds + DAY})
    platform.tasks.checkpoints[task.name] = [Checkpoint(step=5, artifact=kept.name)]
    model = (await http.get(f"{MODELS}/{name}:ckpt-step-5")).json()
    assert (model["id"], model["shutdown_date"]) == (f"{name}:ckpt-step-5", "2027-01-16")
    answer = await http.get(f"{MODELS}/{name}:ckpt-step-6")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_checkpoint_ends_by_itself(http, platform) -> None:
    name = tuned(platform)
    (task,) = platform.tasks.stored
    kept = platform.artifacts.add({"a": b"2"})
    platform.tasks.checkpoints[task.name] = [Checkpoint(step=5, artifact=kept.name)]
    answer = await http.delete(f"{MODELS}/{name}:ckpt-step-5")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "model_not_deletable")
    assert len(platform.artifacts.stored) == 2


def twins(platform, *suffixes: str) -> list[tuple[Task, str]]:
    """Tasks whose ids begin alike, and their names."""
    found = []
    for number, suffix in enumerate(suffixes):
        tuned(platform, labels={"openai.suffix": suffix})
        task = platform.tasks.stored[-1]
        task.name = f"tasks/{uuid.UUID(f'0123abcd{number:024x}')}"
        found.append((task, f"ft:tiny:tunesmith:{suffix}:0123abcd"))
    return found


async def test_of_names_that_end_alike_the_rest_decides(http, platform) -> None:
    for _, name in twins(platform, "one", "two"):
        assert (await http.get(f"{MODELS}/{name}")).json()["id"] == name


async def test_a_name_that_can_be_two_is_refused_and_told_how_to_say_which(http, platform) -> None:
    (task, name), _ = twins(platform, "same", "same")
    for path in (f"{MODELS}/{name}", f"{MODELS}/ft:tiny:tunesmith:other:0123abcd"):
        answer = await http.get(path)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "model_ambiguous", "model")
        long = f"ft:tiny:tunesmith:same:{uuid.UUID(task.name[6:]).hex}"
        assert long in error["message"]
    assert (await http.get(f"{MODELS}/{long}")).json()["id"] == long


async def test_the_organization_in_a_name_may_have_changed_since(http, platform) -> None:
    name = tuned(platform).replace(":tunesmith:", ":acme:")
    assert (await http.get(f"{MODELS}/{name}")).json()["id"] == name
