"""What one export does, read once from CONFIG.json, which the trainer's face has written."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from services.trainer.training.config import Lora, parse_as


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """The whole of CONFIG.json."""

    run: str
    base_model: str
    """Resource name."""
    base_model_dir: Path
    source_dir: Path
    """The files of the artifact."""
    source_kind: Literal["ADAPTER", "MODEL", "CHECKPOINT", "MERGED"]
    step: int
    """Optimizer step of the artifact."""
    lora: Lora | None
    """Of a checkpoint whose task has trained an adapter; None = the source describes itself, or all weights were trained."""
    format: Literal["MERGED", "GGUF"]
    gguf_type: Literal["F16", "F32", "Q8_0"]
    """Of matrices in a GGUF file."""
    output_dir: Path


def load_config(path: Path) -> ExportConfig:
    """Raises ConfigError naming the key that is unknown, missing or of the wrong type."""
    config: ExportConfig = parse_as(ExportConfig, json.loads(path.read_text(encoding="utf-8")), "config")
    return config
