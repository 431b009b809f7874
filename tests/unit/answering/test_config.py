"""What the process is told: by its file, and by its environment, in which alone the key stands."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import ServiceError
from services.common.grading.graders import Multi, ScoreModel, StringCheck, Turn
from services.common.grading.sampling import Sampling
from services.trainer.answering.config import EvaluationConfig, GenerationConfig, Peer, inference_service, load_config

PREFIX = "TUNESMITH_RUN_INFERENCE_"


@pytest.fixture
def load(tmp_path: Path):
    def loader(spec: dict[str, Any], **more: Any) -> EvaluationConfig | GenerationConfig:
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"spec": spec, "data": "/rows.jsonl", "trained_on": {}} | more))
        return load_config(path)

    return loader


def evaluation(**changes: Any) -> dict[str, Any]:
    return {"evaluation": {"models": ["a", "b"], "dataset": "datasets/x"} | changes}


def test_what_is_not_said_has_its_default(load, tmp_path: Path) -> None:
    found = load(evaluation())
    assert (found.models, found.graders, found.sampling) == (("a", "b"), (), Sampling())
    assert (found.max_rows, found.system_prompt, found.measures_perplexity, found.steps) == (None, "", True, {})
    assert (found.directory, found.data) == (tmp_path, Path("/rows.jsonl"))
    assert (found.answers, found.output) == (tmp_path / "answers", tmp_path / "output")


@pytest.mark.parametrize(("given", "expected"), [(True, True), (False, False)])
def test_perplexity_may_be_left_out(load, given: bool, expected: bool) -> None:
    assert load(evaluation(perplexity=given)).measures_perplexity is expected


GRADER = {"name": "same", "string_check": {"operation": "EQ"}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, True), ({"sampling": {"seed": "1"}}, True), ({"sampling": {"max_tokens": 9}}, False), ({"graders": [GRADER]}, False)],
    ids=["nothing said", "only a seed", "a length", "graders"],
)
def test_who_says_nothing_of_length_and_graders_gets_a_bound(load, given: dict[str, Any], expected: bool) -> None:
    assert load(evaluation(**given)).bounds_answers is expected


def test_numbers_of_sampling_come_as_they_were_given(load) -> None:
    sampling = {"max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "seed": "0", "stop": ["!", "?"]}
    assert load(evaluation(sampling=sampling)).sampling == Sampling(7, 0.5, 0.9, 0, ("!", "?"))


@pytest.mark.parametrize(
    ("given", "expected"), [({}, None), ({"max_rows": "1"}, 1), ({"max_rows": 9_000_000_000}, 9_000_000_000)]
)
def test_how_many_rows_at_most(load, given: dict[str, Any], expected: int | None) -> None:
    assert load(evaluation(**given)).max_rows == expected


@pytest.mark.parametrize(("given", "expected"), [({}, False), ({"spread_rows": True}, True)])
def test_rows_are_the_first_ones_unless_they_are_to_be_spread(load, given: dict[str, Any], expected: bool) -> None:
    assert load(evaluation(**given)).spreads_rows is expected


def test_graders_come_in_their_order_with_those_inside(load) -> None:
    judge = {"name": "judge", "score_model": {"model": "m", "input": [{"role": "user", "content": "x"}], "range_max": 5}}
    check = {"name": "eq", "string_check": {"operation": "NE", "input": "a", "reference": "b"}}
    both = {"name": "both", "multi": {"graders": [check], "calculate_output": "eq", "pass_threshold": 0.5}}
    assert load(evaluation(graders=[judge, both])).graders == (
        ScoreModel("judge", "m", (Turn("user", "x"),), 0.0, 5.0),
        Multi("both", (StringCheck("eq", "a", "b", "NE"),), "eq", 0.5),
    )


def test_steps_and_training_data_are_by_model(load) -> None:
    found = load(evaluation(), trained_on={"a": {}, "b": {"datasets/y": "/y", "datasets/z": "/z"}}, steps={"b": 40})
    assert found.trained_on == {"a": {}, "b": {"datasets/y": Path("/y"), "datasets/z": Path("/z")}}
    assert found.steps == {"b": 40}


def test_a_generation_has_one_model(load) -> None:
    found = load({"generation": {"model": "m", "dataset": "datasets/x", "max_rows": "3", "system_prompt": "s"}})
    assert isinstance(found, GenerationConfig)
    assert (found.model, found.max_rows, found.system_prompt, found.sampling) == ("m", 3, "s", Sampling())


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"], ids=["empty", "cut", "list", "nothing"])
def test_what_the_face_does_not_write_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises((ValueError, KeyError, TypeError)):
        load_config(path)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch):
    def setter(**given: str) -> Peer:
        for name in ("ADDRESS", "API_KEY", "TLS_CA", "QUESTIONS"):
            monkeypatch.delenv(PREFIX + name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(PREFIX + name, value)
        return inference_service()

    return setter


def test_the_service_is_told_by_the_environment(told, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"PEM")
    assert told(ADDRESS="h:1", QUESTIONS="8") == Peer("h:1", "", None, 8)
    assert told(ADDRESS="h:1", QUESTIONS="8", API_KEY="k", TLS_CA=str(tmp_path / "ca.pem")) == Peer("h:1", "k", b"PEM", 8)


@pytest.mark.parametrize("given", [{}, {"ADDRESS": "", "QUESTIONS": "8"}], ids=["nothing", "empty"])
def test_without_an_address_it_is_said_what_is_missing(told, given: dict[str, str]) -> None:
    with pytest.raises(ServiceError) as caught:
        told(**given)
    assert caught.value.reason == "INFERENCE_NOT_SET"


def test_an_authority_that_cannot_be_read_is_no_silence(told, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        told(ADDRESS="h:1", QUESTIONS="8", TLS_CA=str(tmp_path / "none.pem"))
