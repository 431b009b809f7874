"""vLLM as it is, in an environment of its own, keeps to the contract of every Engine and writes what ours writes.

`pytest tests/integration/inference/test_vllm.py -m nightly`: the environment is that of `tests/compat/locks/nightly/vllm.txt`.
"""

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_engine_contract
import torch
from engine_rows import alone, first_written, together
from inference_fakes import ARTIFACT, OTHER_ARTIFACT
from peft_reference import write_adapter
from tiny_model import make_tiny_model
from transformers import LlamaConfig, LlamaForCausalLM

from services.common.errors import ServiceError
from services.inference.engine import GenerationRequest, Sampling
from services.inference.engine_process import Options
from services.inference.remote_engine import EngineProcess, RemoteEngine
from services.inference.transformers_engine import TransformersEngine
from tests.compat.environments import python_of

pytestmark = [pytest.mark.integration, pytest.mark.nightly, pytest.mark.timeout(600)]

BASE, OTHER = "baseModels/tiny", "baseModels/other"
# All tests of the contract, with the fixtures of this module.
globals().update({name: test for name, test in inspect.getmembers(test_engine_contract) if name.startswith("test_")})


@pytest.fixture(scope="module")
def started() -> Iterator[RemoteEngine]:
    options = Options(threads=1, prefix_tokens=1024, pack_up_to=0, engine="vllm", cache_bytes=2**26)
    python = python_of("nightly/vllm")
    engine = RemoteEngine(lambda: EngineProcess.start(options, python))
    engine.start()
    yield engine
    if engine._process:
        engine._process.end()


@pytest.fixture
def engine(started: RemoteEngine) -> Iterator[RemoteEngine]:
    yield started
    for name in (BASE, OTHER):
        started.unload(name)


@pytest.fixture(scope="session")
def base_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads as wide as vLLM's kernels for CPUs take them."""
    directory = make_tiny_model(tmp_path_factory.mktemp("wide") / "base")
    torch.manual_seed(0)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 2, "max_position_embeddings": 512}
    sizes = {"vocab_size": 268, "hidden_size": 64, "intermediate_size": 64, "tie_word_embeddings": False}
    model = LlamaForCausalLM(LlamaConfig(**heads, **sizes))
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5 if "embed" in name else 0.15)
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def adapter_directory(base_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    linear = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return write_adapter(base_directory, tmp_path_factory.mktemp("wide") / "first", seed=1, target_modules=linear)


@pytest.fixture(scope="session")
def other_adapter_directory(base_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wide") / "second"
    return write_adapter(base_directory, directory, seed=2, target_modules=["q_proj", "v_proj"], rank=2)


@pytest.fixture
def both(engine, base_directory: Path, adapter_directory: Path, other_adapter_directory: Path) -> tuple:
    """vLLM and ours, with the same models."""
    ours = TransformersEngine(threads=1)
    for each in (engine, ours):
        each.load_base(BASE, base_directory)
        each.load_adapter(BASE, ARTIFACT, adapter_directory)
        each.load_adapter(BASE, OTHER_ARTIFACT, other_adapter_directory)
    return engine, ours


def asked(adapter: str | None = None, length: int = 5, tokens: int = 12, **more: object) -> GenerationRequest:
    return GenerationRequest(BASE, adapter, tuple(range(5 + length, 5 + 2 * length)), tokens, **more)


def test_it_writes_what_ours_writes_whatever_the_adapters_in_the_batch(both: tuple) -> None:
    requests = [asked(None, 3), asked(ARTIFACT, 40), asked(OTHER_ARTIFACT, 5), asked(ARTIFACT, 1), asked(None, 90)]
    vllm, ours = both
    singly = [alone(ours, request) for request in requests]
    assert len({tuple(answer) for answer in singly}) == len(singly)
    assert [together(vllm, requests, stagger=stagger) for stagger in (0, 2)] == [singly, singly]


@pytest.mark.parametrize("adapter", [None, ARTIFACT], ids=["base", "adapter"])
def test_log_probabilities_agree_of_what_is_written_and_of_the_prompt(both: tuple, adapter: str | None) -> None:
    found, expected = (first_written(each, asked(adapter, 30, logprobs=3, judged_from=0)) for each in both)
    assert found.id == expected.id
    for one, other in zip((found, *found.prompt), (expected, *expected.prompt), strict=True):
        assert one.id == other.id
        assert [token for token, _ in one.top] == [token for token, _ in other.top]
        own = [] if one.logprob is None else [one.logprob, other.logprob]
        assert own == [] or own[0] == pytest.approx(own[1], abs=2e-4)
        assert [value for _, value in one.top] == pytest.approx([value for _, value in other.top], abs=2e-4)


def test_prompts_are_judged_beside_rows_with_adapters(both: tuple) -> None:
    vllm, ours = both
    requests = [asked(None, 30, judged_from=0), asked(ARTIFACT, 25, judged_from=3), asked(OTHER_ARTIFACT, 9)]
    assert together(vllm, requests) == together(ours, requests)


GREEDY = {
    "bias": Sampling(logit_bias=((77, 100.0),)),
    "frequency": Sampling(frequency_penalty=2.0),
    "presence": Sampling(presence_penalty=2.0),
    "repetition": Sampling(repetition_penalty=3.0),
}


@pytest.mark.parametrize("sampling", GREEDY.values(), ids=GREEDY)
def test_what_changes_logits_changes_them_as_ours_does(both: tuple, sampling: Sampling) -> None:
    found, expected = (alone(each, asked(None, 20, 20, sampling=sampling)) for each in both)
    assert found == expected


def test_a_seed_writes_the_same_whatever_else_is_in_the_batch(both: tuple) -> None:
    vllm, _ = both
    wish = Sampling(1.0, 0.95, 11, 50, 0.01)
    request = asked(ARTIFACT, 8, 25, sampling=wish)
    single = alone(vllm, request)
    others = [dataclasses.replace(request, sampling=dataclasses.replace(wish, seed=seed), adapter=None) for seed in range(4)]
    assert together(vllm, [request, *others], stagger=1)[0] == single
    assert alone(vllm, others[0]) != alone(vllm, others[1])


class OnlyEven:
    """Allows even tokens below 64."""

    def allowed(self) -> bytes:
        return b"\x55" * 8

    def take(self, token: int) -> None:
        assert token % 2 == 0


def test_a_guide_is_kept_to_and_leaves_the_others_alone(both: tuple) -> None:
    vllm, ours = both
    guided = asked(None, 20, 20, guide=OnlyEven())
    written, free = together(vllm, [guided, asked(ARTIFACT, 7)])
    assert all(token % 2 == 0 and token < 64 for token in written)
    assert written == alone(ours, guided)
    assert free == alone(ours, asked(ARTIFACT, 7))


def test_what_it_cannot_do_is_refused_in_words(engine, base_directory: Path, tmp_path: Path) -> None:
    engine.load_base(BASE, base_directory)
    linear = ["q_proj", "v_proj"]
    dora = write_adapter(base_directory, tmp_path / "dora", seed=3, target_modules=linear, use_dora=True)
    with pytest.raises(ServiceError, match="DoRA") as refused:
        engine.load_adapter(BASE, ARTIFACT, dora)
    assert refused.value.reason == "ARTIFACT_UNUSABLE"
    assert len(alone(engine, asked())) == 12
