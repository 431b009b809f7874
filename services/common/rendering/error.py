"""Why messages cannot become tokens; raised by everything in this package."""

from services.common.errors import ServiceError


class RenderError(ServiceError):
    """Messages cannot be turned into trainable tokens. DATASET_UNUSABLE: these messages; BASE_MODEL_UNUSABLE: the model."""

    def __init__(self, message: str, *, reason: str = "BASE_MODEL_UNUSABLE") -> None:
        super().__init__(reason, message)


def unusable_row(message: str) -> RenderError:
    """These messages are at fault, not the model."""
    return RenderError(message, reason="DATASET_UNUSABLE")
