"""What a job carries that a task has no field for, as labels of the task: `metadata`, and under `openai.` what only we read."""

from collections.abc import Mapping

from services.gateway.bodies import Body, optional
from services.gateway.failures import refused
from services.gateway.job_method import multiplier_of

_OWN = "openai."
SUFFIX = _OWN + "suffix"
MULTIPLIER = _OWN + "learning_rate_multiplier"
MODEL = _OWN + "model"
"""Of batches and runs of evals: the model as the caller names it."""
_MAX_PAIRS, _MAX_KEY, _MAX_VALUE = 16, 64, 512


def labels_of(body: Body, suffix: str) -> dict[str, str]:
    """The labels of the task to create; raises InvalidArgument naming `metadata`."""
    labels = metadata_in(body)
    if suffix:
        labels[SUFFIX] = suffix
    if (multiplier := multiplier_of(body)) is not None:
        labels[MULTIPLIER] = str(multiplier)
    return labels


def metadata_of(labels: Mapping[str, str]) -> dict[str, str]:
    """What of a task's labels is the caller's."""
    return {key: value for key, value in labels.items() if not key.startswith(_OWN)}


def metadata_in(body: Body) -> dict[str, str]:
    """`metadata` of a request; raises InvalidArgument naming it."""
    given = optional(body, "metadata", dict) or {}
    if len(given) > _MAX_PAIRS:
        raise refused("metadata", f"has {len(given)} pairs; at most {_MAX_PAIRS} are permitted")
    for key, value in given.items():
        if not isinstance(value, str):
            raise refused("metadata", f"the value of {key[:80]!r} is not a string")
        if not 1 <= len(key) <= _MAX_KEY or len(value) > _MAX_VALUE or key.startswith(_OWN):
            limits = f"keys have 1 to {_MAX_KEY} characters and do not begin with {_OWN}, values have at most {_MAX_VALUE}"
            raise refused("metadata", f"{key[:80]!r}: {limits}")
    return dict(given)
