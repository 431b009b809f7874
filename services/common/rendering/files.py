"""What the renderer reads from a model directory: the tokenizer, the special tokens by name, the ids that end a text."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from services.common.rendering.error import RenderError

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def read_tokenizer(directory: Path) -> Tokenizer:
    """tokenizer.json; raises RenderError."""
    try:
        return Tokenizer.from_file(str(directory / "tokenizer.json"))
    except Exception as error:  # the tokenizers library raises bare Exception for a file it cannot read
        raise RenderError(f"{directory.name}/tokenizer.json cannot be read: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty when there is no such file. Raises RenderError."""
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RenderError(f"{path.parent.name}/{path.name} is not JSON: {error}") from error
    return value if isinstance(value, dict) else {}


def special_tokens(config: dict[str, Any]) -> dict[str, str]:
    """Texts by name; older files write a token as an object with its text under `content`."""
    tokens = {name: config.get(name) for name in _SPECIAL_TOKENS}
    texts = {name: token.get("content") if isinstance(token, dict) else token for name, token in tokens.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def check_vocabulary(directory: Path) -> None:
    """Every token has a row in the model's embeddings, as far as config.json tells how many there are; raises RenderError."""
    rows = read_json(directory / "config.json").get("vocab_size")
    tokenizer = read_tokenizer(directory)
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if isinstance(rows, int) and highest >= rows:
        token = tokenizer.id_to_token(highest)
        raise RenderError(f"the tokenizer has token {highest} ({token!r}), but config.json says vocab_size {rows}")


def declared_stops(directory: Path) -> set[int]:
    """Ids that generation_config.json names as the end of a text."""
    stops = read_json(directory / "generation_config.json").get("eos_token_id")
    return {stop for stop in (stops if isinstance(stops, list) else [stops]) if isinstance(stop, int)}
