"""The names of our request fields in OpenAI's words; used for `param` of errors."""

_SPEC = "task.spec.fine_tuning."
_NUMBERS = _SPEC + "hyperparameters."
_NAMES = {
    "task.display_name": "suffix",
    "task.description": "tunesmith.description",
    "task.labels": "metadata",
    "task.priority": "tunesmith.priority",
    _SPEC + "base_model": "model",
    _SPEC + "initial_artifact": "model",
    _SPEC + "dataset": "training_file",
    _SPEC + "validation_dataset": "validation_file",
    _NUMBERS + "num_train_epochs": "hyperparameters.n_epochs",
    _NUMBERS + "global_batch_size": "hyperparameters.batch_size",
    _NUMBERS + "learning_rate": "hyperparameters.learning_rate_multiplier",
    _NUMBERS + "preference.beta": "hyperparameters.beta",
    _NUMBERS + "seed": "seed",
    "task.spec.evaluation.models[0]": "data_source.model",
    "task.spec.evaluation.dataset": "data_source.source",
    "task.spec.evaluation.data_source": "data_source",
    "task.spec.evaluation.graders": "testing_criteria",
    "eval.display_name": "name",
    "eval.data_source_config": "data_source_config",
    "eval.testing_criteria": "testing_criteria",
    "task.spec.generation.model": "model",
    "task.spec.generation.dataset": "input_file_id",
    "page_size": "limit",
    "page_token": "after",
    "header.display_name": "file",
    "header.lifetime_seconds": "expires_after.seconds",
    "late_lifetime_seconds": "expires_after.seconds",
    "chunk": "data",
    "pieces": "part_ids",
}


def openai_name(field: str) -> str:
    """What the caller calls `field`; a field that only Tunesmith has is one of `tunesmith`."""
    if field in _NAMES:
        return _NAMES[field]
    if field.startswith("task.labels["):
        return "metadata"
    return "tunesmith." + field.removeprefix(_SPEC) if field.startswith(_SPEC) else field
