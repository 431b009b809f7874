"""The engine over vLLM's stand-in: what is asked of vLLM, what becomes of its words, and what is refused."""

import dataclasses
import json
from pathlib import Path

import pytest
from engine_rows import alone, first_written, together
from fake_vllm import FakeVllm
from inference_fakes import ARTIFACT, OTHER_ARTIFACT, write_adapter_weights

from services.common.errors import ServiceError
from services.inference.engine import GenerationRequest, Sampling, Token, Written
from services.inference.vllm_adapter import MAX_RANK, check_adapter
from services.inference.vllm_engine import VllmEngine
from services.inference.vllm_sampling import arguments

BASE, OTHER = "baseModels/tiny", "baseModels/other"
ASKED = GenerationRequest(BASE, None, (10, 11, 12), 5)
LORA = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "bias": "none"}


class Models:
    """Remembers what was started."""

    def __init__(self, script=None) -> None:
        self.started: list[FakeVllm] = []
        self._more = {"script": script} if script else {}

    def __call__(self, directory: Path) -> FakeVllm:
        self.started.append(FakeVllm(directory, **self._more))
        return self.started[-1]


@pytest.fixture
def models() -> Models:
    return Models()


@pytest.fixture
def engine(models: Models, base_files: Path) -> VllmEngine:
    engine = VllmEngine(models)
    engine.load_base(BASE, base_files)
    return engine


@pytest.fixture
def base_files(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors").touch()
    return tmp_path / "base"


def adapter(directory: Path, **changes: object) -> Path:
    write_adapter_weights(directory)
    (directory / "adapter_config.json").write_text(json.dumps(LORA | changes))
    return directory


def test_what_the_device_has_left_is_told(models: Models) -> None:
    assert (VllmEngine(models).free_device_bytes(), VllmEngine(models, lambda: 7).free_device_bytes()) == (0, 7)


def test_every_wish_is_handed_on() -> None:
    wish = Sampling(0.5, 0.9, 7, 40, 0.1, 0.2, 0.3, 1.4, ((3, -5.0),))
    asked = arguments(dataclasses.replace(ASKED, sampling=wish, logprobs=2, judged_from=1))
    assert {*dataclasses.asdict(wish)} <= {*asked}
    assert asked == {
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "seed": 7,
        "frequency_penalty": 0.2,
        "presence_penalty": 0.3,
        "repetition_penalty": 1.4,
        "logit_bias": {3: -5.0},
        "logprobs": 2,
        "prompt_logprobs": 2,
        "ignore_eos": True,
        "detokenize": False,
    }


def test_what_is_not_wished_for_is_not_asked() -> None:
    asked = arguments(ASKED)
    assert (asked["logit_bias"], asked["logprobs"], asked["prompt_logprobs"]) == (None, None, None)
    assert arguments(dataclasses.replace(ASKED, judged_from=0))["prompt_logprobs"] == 0


def test_tokens_come_with_their_log_probability_and_the_likeliest_alone(engine: VllmEngine) -> None:
    found = first_written(engine, dataclasses.replace(ASKED, logprobs=2))
    assert found == Written(3, -4.0, ((100, -1.0), (101, -2.0)))
    assert first_written(engine, dataclasses.replace(ASKED, logprobs=0)) == Written(3, -4.0)
    assert first_written(engine, ASKED) == Written(3)


@pytest.mark.parametrize("length", [3, 9], ids=["in the same step", "a step before"])
def test_the_judgement_of_the_prompt_comes_with_the_first_token_and_once(engine: VllmEngine, length: int) -> None:
    prompt = tuple(range(10, 10 + length))
    asked = dataclasses.replace(ASKED, prompt=prompt, logprobs=1, judged_from=0)
    likeliest = ((100, -1.0),)
    judged = (Token(10), *(Token(token, -4.0, likeliest) for token in prompt[1:]))
    engine.admit(1, asked)
    if length > 8:
        assert engine.step(BASE) == {}
    assert engine.step(BASE) == {1: Written(3, -4.0, likeliest, judged)}
    assert engine.step(BASE) == {1: Written(3, -4.0, likeliest)}
    assert first_written(engine, dataclasses.replace(asked, judged_from=2)).prompt == judged[2:]


def test_a_row_that_left_gets_nothing_and_is_taken_out(engine: VllmEngine, models: Models) -> None:
    engine.admit(1, ASKED)
    engine.admit(2, ASKED)
    engine.step(BASE)
    engine.leave(1)
    engine.leave(1)
    assert set(models.started[0].rows) == {2}
    assert set(engine.step(BASE)) == {2}
    engine.leave(2)
    assert engine.step(BASE) == {}


def test_adapters_have_numbers_of_their_own_also_when_they_come_again(engine: VllmEngine, models: Models, tmp_path: Path) -> None:
    directory = adapter(tmp_path / "a")
    engine.load_adapter(BASE, ARTIFACT, directory)
    engine.load_adapter(BASE, OTHER_ARTIFACT, adapter(tmp_path / "b"))
    engine.unload(ARTIFACT)
    engine.load_adapter(BASE, ARTIFACT, directory)
    assert set(models.started[0].adapters) == {2, 3}
    engine.admit(1, dataclasses.replace(ASKED, adapter=ARTIFACT))
    engine.admit(2, dataclasses.replace(ASKED, adapter=OTHER_ARTIFACT))
    engine.admit(3, ASKED)
    assert [row.adapter for row in models.started[0].rows.values()] == [3, 2, None]


def test_a_base_model_that_goes_is_closed_with_its_adapters(engine: VllmEngine, models: Models, base_files: Path) -> None:
    engine.load_base(OTHER, base_files)
    engine.unload(BASE)
    engine.unload(BASE)
    assert [model.closed for model in models.started] == [True, False]
    assert alone(engine, dataclasses.replace(ASKED, base=OTHER)) == [3] * 5


class Guide:
    """Lets `left` tokens pass."""

    def __init__(self, left: int) -> None:
        self.left = left

    def allowed(self) -> bytes:
        return b"\xff"

    def take(self, token: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise ValueError("lost")


def test_a_guide_hears_every_token_and_its_row_alone_fails_when_it_is_lost(engine: VllmEngine, models: Models) -> None:
    guide = Guide(2)
    engine.admit(1, dataclasses.replace(ASKED, guide=guide))
    engine.admit(2, ASKED)
    steps = [engine.step(BASE) for _ in range(3)]
    failed = steps[2][1]
    assert isinstance(failed, ServiceError)
    assert (failed.reason, failed.message) == ("GENERATION_FAILED", "the model failed: lost")
    assert steps[2][2] == Written(3)
    assert set(models.started[0].rows) == {2}


def test_a_failure_of_vllm_fails_the_rows_of_that_base_model_and_the_next_are_answered(
    engine: VllmEngine, models: Models, base_files: Path
) -> None:
    engine.load_base(OTHER, base_files)
    for ticket, base in enumerate((BASE, BASE, OTHER)):
        engine.admit(ticket, dataclasses.replace(ASKED, base=base))
    models.started[0].failure = RuntimeError()
    outcomes = engine.step(BASE)
    assert {ticket: error.message for ticket, error in outcomes.items()} == {
        0: "the model failed: RuntimeError",
        1: "the model failed: RuntimeError",
    }
    models.started[0].failure = None
    assert engine.step(BASE) == {}
    engine.leave(2)
    assert together(engine, [ASKED, dataclasses.replace(ASKED, base=OTHER)]) == [[3] * 5] * 2


def test_an_answer_that_vllm_ends_by_itself_fails_instead_of_waiting_for_ever(engine: VllmEngine, models: Models) -> None:
    engine.admit(1, ASKED)
    engine.admit(2, ASKED)
    models.started[0].rows[1].left = 2
    steps = [engine.step(BASE) for _ in range(3)]
    assert [set(step) for step in steps] == [{1, 2}] * 3
    failed = steps[2][1]
    assert isinstance(failed, ServiceError)
    assert failed.message == "the model failed: vLLM has ended the answer"
    assert set(engine.step(BASE)) == {2}


REFUSED = {
    "DoRA": ({"use_dora": True}, "DoRA"),
    "rank": ({"r": MAX_RANK + 1}, f"at most {MAX_RANK}"),
    "rank of a layer": ({"rank_pattern": {"q_proj": 2 * MAX_RANK}}, f"at most {MAX_RANK}"),
    "kind": ({"peft_type": "IA3"}, "expected LORA"),
    "labels": ({"task_type": "SEQ_CLS"}, "labels"),
    "whole modules": ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    "bias": ({"bias": "all"}, "bias"),
    "tokens": ({"trainable_token_indices": [1]}, "trainable_token_indices"),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED.values(), ids=REFUSED)
def test_what_vllm_cannot_do_is_refused_in_words(
    engine: VllmEngine, models: Models, tmp_path: Path, changes: dict, said: str
) -> None:
    with pytest.raises(ServiceError, match=said) as refused:
        engine.load_adapter(BASE, ARTIFACT, adapter(tmp_path / "a", **changes))
    assert refused.value.reason == "ARTIFACT_UNUSABLE"
    assert not models.started[0].adapters


def test_pickled_weights_never_reach_vllm(tmp_path: Path) -> None:
    directory = adapter(tmp_path / "a")
    (directory / "adapter_model.safetensors").rename(directory / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"no adapter_model\.safetensors"):
        check_adapter(directory)


def test_a_base_model_that_does_not_load_says_why(models: Models, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="Cannot find any model weights") as refused:
        VllmEngine(models).load_base(BASE, tmp_path)
    assert refused.value.reason == "BASE_MODEL_UNUSABLE"
    assert "TUNESMITH_INFERENCE_VLLM_CACHE_BYTES" in refused.value.hint
