"""A tokenizer and a chat template as the keys of a GGUF file; used by the writer.

llama.cpp knows ways of splitting text by name, not by rule: a tokenizer is written only when one of the names means its rule.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType

from services.common.errors import ServiceError
from services.common.rendering.files import read_json, special_tokens
from services.common.rendering.template import read_template

_BYTE_LEVEL = {"type": "ByteLevel", "use_regex": True}
_DIGITS = {"type": "Digits", "individual_digits": True}
_SPLITS = {"gpt-2": [_BYTE_LEVEL], "smollm": [_DIGITS, _BYTE_LEVEL]}
"""Rules of tokenizer.json by the name that llama.cpp has for them."""
_ROLES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unk", "pad_token": "pad"}


def add(writer: GGUFWriter, files: Path, config: Any) -> None:
    """Raises ServiceError EXPORT_UNSUPPORTED for a tokenizer that llama.cpp would read as another one."""
    described = json.loads((files / "tokenizer.json").read_text(encoding="utf-8"))
    settings = read_json(files / "tokenizer_config.json")
    split = split_name(described)
    added = {token["id"]: token for token in described.get("added_tokens", ())}
    vocabulary = {index: token for token, index in described["model"]["vocab"].items()}
    vocabulary |= {index: token["content"] for index, token in added.items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    tokens, types = _tokens(vocabulary, added, config.vocab_size)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in described["model"]["merges"]])
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    _add_roles(writer, special_tokens(settings), {token: index for index, token in vocabulary.items()}, config)
    if template := read_template(files, settings):
        writer.add_chat_template(template)


def split_name(described: Mapping[str, Any]) -> str:
    """llama.cpp's name for how a tokenizer.json splits text; raises ServiceError EXPORT_UNSUPPORTED."""
    model, normalizer = described["model"], described.get("normalizer")
    if model["type"] != "BPE" or model.get("byte_fallback") or normalizer is not None:
        raise _unsupported(f"it is of type {model['type']}, or changes text before it splits it; only byte-level BPE is written")
    before = described.get("pre_tokenizer") or {}
    steps = before["pretokenizers"] if before.get("type") == "Sequence" else [before]
    for name, rules in _SPLITS.items():
        if len(steps) == len(rules) and all(_is(step, rule) for step, rule in zip(steps, rules, strict=True)):
            return name
    kinds = ", ".join(str(step.get("type")) for step in steps)
    raise _unsupported(f"it splits text by {kinds}, for which llama.cpp has no name that is known here")


def _is(step: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    return all(step.get(key) == value for key, value in rule.items()) and not step.get("add_prefix_space")


def _tokens(vocabulary: Mapping[int, str], added: Mapping[int, Any], size: int) -> tuple[list[str], list[TokenType]]:
    """Every row of the embeddings has a token; rows that the tokenizer does not use are marked so."""
    tokens = [vocabulary.get(index, f"[UNUSED{index}]") for index in range(size)]
    types = [_type(vocabulary, added, index) for index in range(size)]
    return tokens, types


def _type(vocabulary: Mapping[int, str], added: Mapping[int, Any], index: int) -> TokenType:
    if index not in vocabulary:
        return TokenType.UNUSED
    if index in added:
        return TokenType.CONTROL if added[index]["special"] else TokenType.USER_DEFINED
    return TokenType.NORMAL


def _add_roles(writer: GGUFWriter, named: Mapping[str, str], ids: Mapping[str, int], config: Any) -> None:
    for role, key in _ROLES.items():
        index = ids.get(named.get(role) or "")
        if index is None and isinstance(declared := getattr(config, f"{role}_id", None), int):
            index = declared
        if index is not None:
            getattr(writer, f"add_{key}_token_id")(index)


def _unsupported(cause: str) -> ServiceError:
    return ServiceError("EXPORT_UNSUPPORTED", f"the tokenizer cannot be written as GGUF: {cause}")
