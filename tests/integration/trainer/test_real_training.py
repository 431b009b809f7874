"""The whole way with the real training process on a model of a few thousand parameters."""

import hashlib
import json
import signal
import uuid
from pathlib import Path

import pytest
from tiny_model import make_tiny_model
from trainer_face import assert_dense, eventually, eventually_async, texts
from trainer_storage import FakeStorage

from services.common.rendering import Renderer, digest, render_row
from tunesmith.v1 import artifact_pb2, task_pb2, trainer_service_pb2

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def rows(count: int) -> bytes:
    def row(number: int) -> dict:
        question, answer = {"role": "user", "content": f"say {number}"}, {"role": "assistant", "content": str(number)}
        return {"messages": [question, answer]}

    return b"".join(json.dumps(row(number)).encode() + b"\n" for number in range(count))


@pytest.mark.parametrize(("processes", "warm"), [(1, 0), (2, 0), (1, 1)])
async def test_a_tiny_model_is_tuned_and_its_adapter_stored(
    make_face, storage: FakeStorage, tmp_path: Path, processes: int, warm: int
) -> None:
    model = make_tiny_model(tmp_path / "model")
    storage.model_files = {path.name: path.read_bytes() for path in model.iterdir()}
    imports = {"WARM_PROCESSES": str(warm), "WARM_MODULE": "services.trainer.training.practice"}
    face = await make_face(TRAINING_MODULE="services.trainer.training", **imports)

    async def is_ready() -> bool:
        return (await face.stub.GetCapacity(trainer_service_pb2.GetCapacityRequest())).warm_processes == warm

    await eventually_async(is_ready, "nothing is kept ready")
    name = await face.submit(storage.add_dataset(rows(8 * processes)), processes=processes)
    events, end = await face.watch(name, seconds=240)

    assert end.state == task_pb2.Task.SUCCEEDED, (end, texts(events))
    assert_dense(events)
    noise = [text for text in texts(events) if "%|" in text or "warn" in text.lower()]
    assert noise == [], "what a library shows while it loads is no part of a run's log"
    [plan] = [event.training_started for event in events if event.HasField("training_started")]
    steps = [event.step_metrics for event in events if event.HasField("step_metrics")]
    assert (plan.example_count, plan.total_steps, plan.num_processes) == (8 * processes, 4, processes)
    assert [metrics.step for metrics in steps if "loss" in metrics.values] == [1, 2, 3, 4]
    assert "adapter_model.safetensors" in storage.contents[name]
    [header] = storage.headers
    assert header.manifest.step == 4
    assert "torch" in header.manifest.versions
    renderer = Renderer.from_directory(model)
    previews = [digest(render_row(renderer, json.loads(line))) for line in rows(8 * processes).splitlines()]
    seen = hashlib.sha256(b"".join(map(bytes.fromhex, previews))).hexdigest()
    assert header.manifest.rendered_rows_sha256 == seen, "what is previewed is what has trained"
    assert face.remains() == []


async def test_data_with_nothing_left_to_learn_is_the_user_s_to_mend(make_face, storage: FakeStorage, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    storage.model_files = {path.name: path.read_bytes() for path in model.iterdir()}
    face = await make_face(TRAINING_MODULE="services.trainer.training")
    question, answer = {"role": "user", "content": "x" * 5000}, {"role": "assistant", "content": "y"}

    name = await face.submit(storage.add_dataset(json.dumps({"messages": [question, answer]}).encode() + b"\n"))
    _, end = await face.watch(name, seconds=240)

    assert (end.state, end.error.reason) == (task_pb2.Task.FAILED, "NO_TRAINABLE_TOKENS")


async def test_real_training_is_cancelled_without_a_trace(make_face, storage: FakeStorage, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    storage.model_files = {path.name: path.read_bytes() for path in model.iterdir()}
    face = await make_face(TRAINING_MODULE="services.trainer.training", STOP_GRACE="5s")

    name = await face.submit(storage.add_dataset(rows(4000)))
    await eventually(lambda: '"kind":"metrics"' in face.journal(name), "no step was made")
    await face.cancel(name)
    _, end = await face.watch(name)

    assert end.state == task_pb2.Task.CANCELLED
    assert face.remains() == []
    assert [header for header in storage.headers if header.kind != artifact_pb2.Artifact.CHECKPOINT] == []


@pytest.fixture(scope="module")
def unbroken() -> dict:
    """`losses` and `weights` of the run to which nothing happens; the first test that compares with them fills it in."""
    return {}


@pytest.mark.parametrize("interruption", ["RUN_LOST", "RUN_STOPPED", "RUN_PAUSED"])
async def test_a_new_attempt_continues_from_the_last_checkpoint_and_ends_as_if_unbroken(
    make_face, storage: FakeStorage, tmp_path: Path, unbroken: dict, interruption: str
) -> None:
    model = make_tiny_model(tmp_path / "model")
    storage.model_files = {path.name: path.read_bytes() for path in model.iterdir()}
    face = await make_face(TRAINING_MODULE="services.trainer.training", STOP_GRACE="10s")
    dataset, numbers = storage.add_dataset(rows(64)), {"max_steps": 400, "save_steps": 20}
    task = str(uuid.uuid4())

    first = await face.submit(dataset, task=task, **numbers)
    await eventually(lambda: "checkpoint_saved" in face.journal(first), "no checkpoint was saved")
    if interruption == "RUN_LOST":
        face.supervisors()[0].kill()
    elif interruption == "RUN_PAUSED":
        await face.stub.PauseRun(trainer_service_pb2.PauseRunRequest(name=first))
    else:
        await face.end(signal.SIGINT)
        await face.start()
    before, end = await face.watch(first, seconds=240)
    assert end.error.reason == interruption
    last = [event.checkpoint_saved.step for event in before if event.HasField("checkpoint_saved")][-1]

    second = await face.submit(dataset, task=task, attempt=2, epoch=2, **numbers)
    after, end = await face.watch(second, seconds=240)
    assert end.state == task_pb2.Task.SUCCEEDED, texts(after)
    [started] = [event.training_started for event in after if event.HasField("training_started")]
    assert started.resumed_step == last
    assert f"an earlier attempt left a checkpoint of step {last}" in texts(after)

    weights = "adapter_model.safetensors"
    if not unbroken:
        whole = await face.submit(dataset, **numbers)
        events, _ = await face.watch(whole, seconds=240)
        unbroken |= {"losses": losses(events), "weights": storage.contents[whole][weights]}
    assert losses(before) | losses(after) == unbroken["losses"]
    assert storage.contents[second][weights] == unbroken["weights"]


def losses(events) -> dict[int, str]:
    metrics = [event.step_metrics for event in events if event.HasField("step_metrics")]
    return {metric.step: metric.values["loss"].hex() for metric in metrics if "loss" in metric.values}


async def test_a_run_whose_time_is_up_succeeds_early_with_samples_and_says_so(
    make_face, storage: FakeStorage, tmp_path: Path
) -> None:
    model = make_tiny_model(tmp_path / "model")
    storage.model_files = {path.name: path.read_bytes() for path in model.iterdir()}
    face = await make_face(TRAINING_MODULE="services.trainer.training")
    numbers = {"max_steps": 100_000, "time_limit_seconds": 1.0, "eval_steps": 1}

    name = await face.submit(storage.add_dataset(rows(16)), sample_prompts=["say 3"], **numbers)
    events, end = await face.watch(name, seconds=240)

    assert end.state == task_pb2.Task.SUCCEEDED, (end, texts(events))
    assert "the time limit of 1 s was reached after step" in end.early_end
    [anomaly] = [event.anomaly for event in events if event.HasField("anomaly")]
    assert (anomaly.reason, anomaly.rank, anomaly.message) == ("TIME_LIMIT_REACHED", -1, end.early_end)
    assert anomaly.suggestion
    samples = [event.sample_generated for event in events if event.HasField("sample_generated")]
    assert {sample.prompt for sample in samples} == {"say 3"}
    assert [sample.step for sample in samples] == list(range(1, anomaly.step + 1))
    assert storage.headers[0].manifest.step == anomaly.step
