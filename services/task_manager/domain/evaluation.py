"""What a task may ask to be looked at while it trains: validation, samples, an early end; used when a task is validated."""

from collections.abc import Iterator, Sequence

from services.common.errors import Violation
from services.task_manager.domain.hyperparameters import Hyperparameters

MAX_SAMPLE_PROMPTS = 5
MAX_SAMPLE_PROMPT = 2000

_NO_VALIDATION_DATA = "needs validation_dataset or validation_split_ratio"


def violations(given: Hyperparameters, path: str, *, has_validation_data: bool, has_samples: bool) -> Iterator[Violation]:
    """Numbers that need something to evaluate, which there is not."""
    if given.eval_steps is not None and not has_validation_data and not has_samples:
        yield Violation(f"{path}.eval_steps", f"{_NO_VALIDATION_DATA}, or sample_prompts")
    if given.early_stopping_patience is not None and not has_validation_data:
        yield Violation(f"{path}.early_stopping_patience", _NO_VALIDATION_DATA)
    if given.early_stopping_min_delta is not None and given.early_stopping_patience is None:
        yield Violation(f"{path}.early_stopping_min_delta", "needs early_stopping_patience")


def prompt_violations(prompts: Sequence[str], method: str, path: str) -> Iterator[Violation]:
    """Prompts that cannot be answered."""
    if len(prompts) > MAX_SAMPLE_PROMPTS:
        yield Violation(path, f"has {len(prompts)} prompts; at most {MAX_SAMPLE_PROMPTS} are permitted")
    if prompts and method == "CLASSIFICATION":
        yield Violation(path, "method CLASSIFICATION answers with a label and cannot be given prompts")
    for index, prompt in enumerate(prompts):
        if not len(prompt.strip()) >= 1 or len(prompt) > MAX_SAMPLE_PROMPT:
            yield Violation(f"{path}[{index}]", f"must have 1 to {MAX_SAMPLE_PROMPT:,} characters and not be blank")
