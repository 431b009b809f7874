"""The files of a base model that tokens depend on, kept by revision; used by `tunesmith data preview` and `check --model`."""

import hashlib
import os
import shutil
from pathlib import Path

from tunesmith.client import Client
from tunesmith.local.state import data_directory

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "config.json")


def model_directory(client: Client, model: str) -> Path:
    """Where the files are: `model` itself when it is a directory, else fetched once from the storage service."""
    given = Path(model).expanduser()
    if given.is_dir():
        return given
    found = client.get_base_model(model)
    # Hashed, because a revision comes from outside and becomes a path.
    kept = data_directory().root / "cache" / "tokenizers" / hashlib.sha256(found.revision.encode()).hexdigest()[:32]
    if not kept.is_dir():
        _fetch(client, found.name, kept)
    return kept


def _fetch(client: Client, name: str, target: Path) -> None:
    staging = target.with_name(f".{target.name}-{os.getpid()}")
    staging.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        client.download_base_model(name, staging, TOKENIZER_FILES)
        if not target.is_dir():  # else another command was faster
            staging.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
