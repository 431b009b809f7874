"""Which formats of rows each training method learns from, as data; used to refuse data that does not fit."""

from collections.abc import Mapping

# Names of FineTuning.Method and Dataset.Format.
FORMATS: Mapping[str, str] = {
    "SFT": "CHAT",
    "DPO": "PREFERENCE",
    "KTO": "PREFERENCE",
    "ORPO": "PREFERENCE",
    "CPT": "TEXT",
    "CLASSIFICATION": "LABELED",
}
CONVERSATIONS = frozenset({"CHAT", "PREFERENCE", "LABELED"})
"""Formats that the base model's chat template turns into text."""


def learns_tokens(method: str) -> bool:
    """Whether what is learned is to write tokens; a classifier learns one label a row."""
    return method != "CLASSIFICATION"


def needs_chat_template(method: str) -> bool:
    """Whether the method learns from conversations."""
    return FORMATS[method] in CONVERSATIONS
