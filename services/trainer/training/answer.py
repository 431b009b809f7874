"""An answer to one of the task's prompts; made by the samples, told by the sinks, which know no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """To the prompt at `index`."""

    index: int
    prompt: str
    text: str
    truncated: bool
    """It was not over after the most tokens an answer may have."""
