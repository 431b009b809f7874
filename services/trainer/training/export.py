"""What a finished run leaves behind: an adapter or a whole model, and result.json; written once, by the first rank."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from peft import PeftModel

from services.trainer.training.progress import Result

_PACKAGES = ("torch", "transformers", "peft", "deepspeed", "tunesmith")
_README = "README.md"


def save_adapter(model: PeftModel, output_dir: Path) -> None:
    """adapter_model.safetensors and adapter_config.json, whole or not at all; with a head of labels also config.json, which names
    them. Call it with all weights whole.
    """

    def write(work: Path) -> None:
        # The embeddings are never trained; peft's default would ask a hub whether they were resized.
        model.save_pretrained(work, safe_serialization=True, save_embedding_layers=False)
        (work / _README).unlink(missing_ok=True)
        if model.active_peft_config.task_type == "SEQ_CLS":
            model.get_base_model().config.save_pretrained(work)

    _write_whole(output_dir, write)


def save_model(model: Any, base_model_dir: Path, output_dir: Path) -> None:
    """A complete model directory: the trained weights as they are, and everything but weights of the base model's."""

    def write(work: Path) -> None:
        model.save_pretrained(work, safe_serialization=True)
        written = {path.name for path in work.iterdir()}
        for path in base_model_dir.iterdir():
            if path.is_file() and path.name not in written and ".safetensors" not in path.name:
                shutil.copyfile(path, work / path.name)

    _write_whole(output_dir, write)


def save_result(
    result: Result, kind: str, rendered_rows_sha256: str, path: Path, evaluation: Mapping[str, Any] | None = None
) -> None:
    """What the output is, last step, last metrics, what was trained on and the versions that made it, as JSON; `evaluation`:
    how good it is, where training itself has measured that."""
    value: dict[str, Any] = {
        "kind": kind,
        "step": result.step,
        "metrics": result.metrics,
        "rendered_rows_sha256": rendered_rows_sha256,
        "versions": versions(),
    }
    if evaluation is not None:
        value["evaluation"] = evaluation
    save_json(value, path)


def versions() -> dict[str, str]:
    """Of the packages that decide what comes out."""
    return {name: _version(name) for name in _PACKAGES}


def save_json(value: Any, path: Path) -> None:
    """Write under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def _write_whole(directory: Path, write: Callable[[Path], None]) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    write(work)
    # Temporary directories and files of safetensors are private to their writer.
    work.chmod(0o755)
    for path in work.iterdir():
        path.chmod(0o644)
    # The supervisor may have made it, and a run that is started again replaces what its first try left.
    shutil.rmtree(directory, ignore_errors=True)
    work.rename(directory)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
