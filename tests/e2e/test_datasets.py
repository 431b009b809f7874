"""Data from a file to a trained model, as a user of the command line sees it: formats, budgets, parts, previews, plans."""

import hashlib
import json
import pathlib

import pytest

from tests.e2e.conftest import TINY
from tests.e2e.local_stack import LocalStack

pytestmark = pytest.mark.e2e

FAST = ("--set", "max_steps=3", "--set", "global_batch_size=4", "--set", "lora.rank=4")


def chat(question: str, answer: str) -> dict:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


ROWS = [chat(f"how many is {number}?", f"it is {number}") for number in range(20)]
CORPUS = pathlib.Path(__file__).parents[1] / "corpus" / "datasets"
BROKEN = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistent", "content": "hi"}]}


def lines(path: pathlib.Path, rows: list[dict]) -> pathlib.Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def upload(stack: LocalStack, path: pathlib.Path, *options: str) -> dict:
    return stack.json("data", "upload", str(path), *options)


def trained(stack: LocalStack, *options: str) -> dict:
    task = stack.json("task", "create", "--name", "data", "--model", TINY, *FAST, *options)
    assert stack.run("task", "watch", task["name"]).returncode == 0
    return stack.json("task", "show", task["name"])


def test_a_bad_row_is_named_before_anything_is_stored(stack: LocalStack, tmp_path: pathlib.Path) -> None:
    path = lines(tmp_path / "bad.jsonl", [*ROWS[:3], BROKEN, *ROWS[3:]])
    before = stack.json_lines("data", "ls")
    checked = stack.run("data", "check", str(path), "--json", check=False)
    assert checked.returncode == 1
    (violation,) = json.loads(checked.stdout)["violations"]
    assert (int(violation["line"]), violation["path"], violation["reason"]) == (4, "messages[1].role", "DATASET_ROLE_UNKNOWN")
    refused = stack.run("data", "upload", str(path), check=False)
    assert refused.returncode == 1
    assert "line 4: messages[1].role" in refused.stderr
    assert stack.json_lines("data", "ls") == before


def test_within_a_budget_bad_rows_are_left_out_and_can_be_downloaded(stack: LocalStack, tmp_path: pathlib.Path) -> None:
    path = lines(tmp_path / "mostly-good.jsonl", [*ROWS[:3], BROKEN, *ROWS[3:]])
    dataset = upload(stack, path, "--max-invalid-rows", "1")
    assert int(dataset["dropped_row_count"]) == 1
    stack.run("data", "download", dataset["name"], str(tmp_path / "dropped.jsonl"), "--content", "dropped")
    (dropped,) = [json.loads(line) for line in (tmp_path / "dropped.jsonl").read_text().splitlines()]
    assert (dropped["line"], dropped["reason"]) == (4, "DATASET_ROLE_UNKNOWN")
    stack.run("data", "download", dataset["name"], str(tmp_path / "rows.jsonl"), "--content", "rows")
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == ROWS


def test_one_array_trains_as_the_same_rows_on_lines_do(stack: LocalStack, tmp_path: pathlib.Path) -> None:
    array = tmp_path / "array.json"
    array.write_text("\ufeff" + json.dumps(ROWS, indent=1).replace("\n", "\r\n"))
    of_array, of_lines = upload(stack, array), upload(stack, lines(tmp_path / "rows.jsonl", ROWS))
    assert of_array["statistics"]["example_count"] == of_lines["statistics"]["example_count"] == "20"
    assert trained(stack, "--data", of_array["name"])["progress"]["metrics"]["loss"] == pytest.approx(
        trained(stack, "--data", of_lines["name"])["progress"]["metrics"]["loss"]
    )


def test_the_sample_files_train_unchanged(stack: LocalStack) -> None:
    datasets = [upload(stack, CORPUS / name) for name in ("single_turn.json", "multi_turn.jsonl")]
    assert [dataset["statistics"]["example_count"] for dataset in datasets] == ["2", "2"]
    progress = trained(stack, *(option for dataset in datasets for option in ("--data", dataset["name"])))["progress"]
    assert progress["metrics"]["loss"] > 0


def test_the_same_name_with_new_content_is_the_next_version(stack: LocalStack, tmp_path: pathlib.Path) -> None:
    first = upload(stack, lines(tmp_path / "a.jsonl", ROWS[:5]), "--name", "versions")
    again = upload(stack, tmp_path / "a.jsonl", "--name", "versions")
    second = upload(stack, lines(tmp_path / "b.jsonl", ROWS[:6]), "--name", "versions")
    assert (first["name"], first["version"]) == (again["name"], again["version"])
    assert (first["version"], second["version"]) == (1, 2)


def test_a_preview_is_what_the_run_has_trained_on(stack: LocalStack, tmp_path: pathlib.Path) -> None:
    dataset = upload(stack, lines(tmp_path / "preview.jsonl", ROWS), "--name", "preview")
    previews = [
        preview
        for first in ("1", "11")
        for preview in stack.json_lines("data", "preview", dataset["name"], "--model", TINY, "--row", first, "--rows", "10")
    ]
    assert len(previews) == len(ROWS)
    for preview, row in zip(previews, ROWS, strict=True):
        (rendering,) = preview["renderings"]
        learned = "".join(rendering["text"][t.get("start", 0) : t["end"]] for t in rendering["tokens"] if t.get("trained"))
        assert learned == row["messages"][1]["content"] + "<|im_end|>"
    task = trained(stack, "--data", dataset["name"])
    artifact = stack.json("artifact", "show", task["artifact"])
    digest = hashlib.sha256(b"".join(bytes.fromhex(preview["sha256"]) for preview in previews)).hexdigest()
    assert artifact["manifest"]["rendered_rows_sha256"] == digest


def test_a_local_file_is_previewed_as_its_dataset_is(stack: LocalStack, tmp_path: pathlib.Path) -> None:
    path = lines(tmp_path / "local.jsonl", ROWS)
    dataset = upload(stack, path)
    options = ("--model", TINY, "--rows", "5")
    of_file, of_dataset = (stack.json_lines("data", "preview", given, *options) for given in (str(path), dataset["name"]))
    assert of_file == of_dataset
    assert len(of_file) == 5


def test_a_plan_tells_tokens_steps_and_time_and_creates_nothing(stack: LocalStack, tmp_path: pathlib.Path) -> None:
    dataset = upload(stack, lines(tmp_path / "plan.jsonl", ROWS))
    before = len(stack.json_lines("task", "ls"))
    plan = stack.json(
        "task", "create", "--dry-run", "--model", TINY, "--data", dataset["name"], "--set", "global_batch_size=5",
        "--set", "num_train_epochs=2",
    )  # fmt: skip
    analysis = stack.json("data", "show", dataset["name"], "--model", TINY)
    assert (plan["total_steps"], plan["example_count"]) == ("8", "20")
    assert plan["token_count"] == analysis["tokens"]["token_count"]
    assert 0 < int(plan["trainable_token_count"]) < int(plan["token_count"])
    assert int(plan["estimated_peak_memory_bytes"]) > 0
    assert len(stack.json_lines("task", "ls")) == before


def test_a_share_of_the_rows_is_held_out_for_validation(stack: LocalStack, tmp_path: pathlib.Path) -> None:
    dataset = upload(stack, lines(tmp_path / "split.jsonl", ROWS))
    task = trained(stack, "--data", dataset["name"], "--validation-split", "0.25")
    assert "eval_loss" in task["progress"]["metrics"]
    started = [e["training_started"] for e in stack.json_lines("task", "watch", task["name"]) if "training_started" in e]
    assert [event["example_count"] for event in started] == ["15"]
    held_out = stack.json("data", "show", task["held_out_dataset"])
    assert held_out["statistics"]["example_count"] == "5"
    # It is asked about them by itself, and none of them is taken for a row that it was trained on.
    assert stack.run("task", "watch", task["evaluation_task"], timeout=240).returncode == 0
    found = stack.json("task", "show", task["name"])["evaluation_result"]
    assert (found["row_count"], found.get("leaks", [])) == ("5", [])


def test_a_mixture_sees_every_row_as_often_as_its_weight_says(stack: LocalStack, tmp_path: pathlib.Path) -> None:
    small = upload(stack, lines(tmp_path / "small.jsonl", ROWS[:4]), "--name", "small")
    large = upload(stack, lines(tmp_path / "large.jsonl", ROWS[4:]), "--name", "large")
    task = trained(stack, "--data", f"{small['name']}:3", "--data", f"{large['name']}:0.5")
    started = [e["training_started"] for e in stack.json_lines("task", "watch", task["name"]) if "training_started" in e]
    assert [event["example_count"] for event in started] == [str(4 * 3 + 16 // 2)]


def test_a_dataset_that_a_live_task_needs_cannot_be_removed(stack: LocalStack, tmp_path: pathlib.Path) -> None:
    dataset = upload(stack, lines(tmp_path / "needed.jsonl", ROWS), "--name", "needed")
    endless = ("--set", "max_steps=100000", "--set", "lora.rank=4")
    task = stack.json("task", "create", "--name", "live", "--model", TINY, "--data", dataset["name"], *endless)
    refused = stack.run("data", "rm", dataset["name"], "--yes", check=False)
    assert refused.returncode == 1
    assert "DATASET_IN_USE" in refused.stderr
    assert task["name"] in refused.stderr
    stack.run("task", "cancel", task["name"])
    stack.run("task", "watch", task["name"], check=False)
    stack.run("data", "rm", dataset["name"], "--yes")
    assert "DATASET_NOT_FOUND" in stack.run("data", "show", dataset["name"], check=False).stderr


def test_a_big_file_goes_up_in_parts(stack: LocalStack, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "big.jsonl"
    with path.open("w") as file:
        for number in range(60_000):
            file.write(json.dumps(chat(f"question {number} " + "x" * 200, f"answer {number}")) + "\n")
    dataset = upload(stack, path, "--parts")
    assert dataset["statistics"]["example_count"] == "60000"
    assert dataset["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_other_formats_are_named_and_converted(stack: LocalStack, tmp_path: pathlib.Path) -> None:
    path = lines(tmp_path / "alpaca.jsonl", [{"instruction": "Count to two.", "input": "", "output": "1, 2"}] * 3)
    refused = stack.run("data", "check", str(path), check=False)
    assert refused.returncode == 1
    assert "convert" in refused.stdout + refused.stderr
    stack.run("data", "convert", str(path), str(tmp_path / "chat.jsonl"))
    assert upload(stack, tmp_path / "chat.jsonl")["statistics"]["example_count"] == "3"
