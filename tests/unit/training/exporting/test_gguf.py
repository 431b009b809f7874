"""The parts of a GGUF file that are decided here: order of rows, names of tokenizers, what has no place in the format."""

import types
from typing import Any

import numpy as np
import pytest
from gguf import TokenType

from services.common.errors import ServiceError
from services.trainer.training.exporting import gguf_file, gguf_vocabulary

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}
BPE = {"type": "BPE", "byte_fallback": False}


def described(*steps: dict[str, Any], model: dict[str, Any] | None = None, normalizer: object = None) -> dict[str, Any]:
    before = steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": list(steps)}
    return {"model": model or BPE, "normalizer": normalizer, "pre_tokenizer": before}


def test_halves_of_a_head_are_interleaved_and_come_back() -> None:
    # Two heads of four rows: rows 0,1 and 2,3 are the halves of the first.
    rows = np.arange(8 * 3).reshape(8, 3)

    permuted = gguf_file.permuted(rows, 2)

    assert [row[0] // 3 for row in permuted] == [0, 2, 1, 3, 4, 6, 5, 7]
    back = permuted.reshape(2, 2, 2, 3).swapaxes(1, 2).reshape(8, 3)
    assert (back == rows).all()


@pytest.mark.parametrize(
    ("tokenizer", "name"),
    [
        (described(BYTE_LEVEL), "gpt-2"),
        (described({k: v for k, v in BYTE_LEVEL.items() if k != "add_prefix_space"}), "gpt-2"),
        (described(DIGITS, BYTE_LEVEL), "smollm"),
    ],
    ids=["gpt-2", "no prefix told", "smollm"],
)
def test_a_rule_that_llama_cpp_knows_has_its_name(tokenizer: dict[str, Any], name: str) -> None:
    assert gguf_vocabulary.split_name(tokenizer) == name


@pytest.mark.parametrize(
    "tokenizer",
    [
        described(BYTE_LEVEL | {"use_regex": False}),
        described(BYTE_LEVEL | {"add_prefix_space": True}),
        described({"type": "Split", "pattern": {"Regex": "x"}}, BYTE_LEVEL),
        described(BYTE_LEVEL, DIGITS),
        described(BYTE_LEVEL, model={"type": "Unigram"}),
        described(BYTE_LEVEL, model=BPE | {"byte_fallback": True}),
        described(BYTE_LEVEL, normalizer={"type": "NFC"}),
        {"model": BPE, "pre_tokenizer": None},
    ],
    ids=["no regex", "prefix", "split", "other order", "unigram", "byte fallback", "normalizer", "nothing"],
)
def test_any_other_rule_is_refused_instead_of_named_wrongly(tokenizer: dict[str, Any]) -> None:
    with pytest.raises(ServiceError) as caught:
        gguf_vocabulary.split_name(tokenizer)
    assert caught.value.reason == "EXPORT_UNSUPPORTED"


def test_every_row_of_the_embeddings_has_a_token() -> None:
    vocabulary = {0: "<end>", 1: "a", 3: "<tool>"}
    added = {0: {"special": True}, 3: {"special": False}}

    tokens, kinds = gguf_vocabulary._tokens(vocabulary, added, 5)

    assert tokens == ["<end>", "a", "[UNUSED2]", "<tool>", "[UNUSED4]"]
    assert kinds == [TokenType.CONTROL, TokenType.NORMAL, TokenType.UNUSED, TokenType.USER_DEFINED, TokenType.UNUSED]


class LlamaForCausalLM:
    """A model as far as the check looks."""

    def __init__(self, **config: Any) -> None:
        plain: dict[str, Any] = {
            "architectures": ["LlamaForCausalLM"],
            "hidden_act": "silu",
            "rope_parameters": {"rope_theta": 1e4},
        }
        self.config = types.SimpleNamespace(**plain | config)


class Qwen2ForCausalLM(LlamaForCausalLM):
    """Another family."""


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Qwen2ForCausalLM(architectures=["Qwen2ForCausalLM"]), "Qwen2ForCausalLM"),
        (LlamaForCausalLM(hidden_act="gelu"), "gelu"),
        (LlamaForCausalLM(rope_parameters={"rope_type": "llama3"}), "llama3"),
    ],
    ids=["family", "activation", "positions"],
)
def test_what_the_format_could_not_tell_is_refused(model: Any, text: str) -> None:
    with pytest.raises(ServiceError, match=text) as caught:
        gguf_file.require_fit(model)
    assert caught.value.reason == "EXPORT_UNSUPPORTED"


def test_a_plain_llama_fits() -> None:
    gguf_file.require_fit(LlamaForCausalLM())


def test_what_does_not_fill_the_blocks_stays_as_it_is() -> None:
    kind = gguf_file._TYPES["Q8_0"][0]
    assert gguf_file._encoded(np.ones((2, 32), np.float32), kind)[2].name == "Q8_0"
    assert gguf_file._encoded(np.ones((2, 33), np.float32), kind)[2].name == "F32"
    assert gguf_file._encoded(np.ones(64, np.float32), kind)[2].name == "F32"
