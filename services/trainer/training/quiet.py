"""Keeps libraries from filling the task's log with their own start-up chatter; called by commands before importing them."""

import logging
import os
import warnings

_LOUD = ("transformers", "DeepSpeed", "peft", "torch", "huggingface_hub", "gguf", "bitsandbytes")


def quiet_libraries() -> None:
    """Errors still show; progress bars, hints and warnings do not. Also makes sure that nothing is fetched from a hub."""
    os.environ.update(
        HF_HUB_OFFLINE="1",
        TRANSFORMERS_OFFLINE="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        HF_HUB_DISABLE_TELEMETRY="1",
        TRANSFORMERS_VERBOSITY="error",
        TOKENIZERS_PARALLELISM="false",
        TQDM_DISABLE="1",
        DS_LOG_LEVEL="error",
    )
    warnings.simplefilter("ignore")
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)
