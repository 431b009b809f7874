"""Turn a quantized GGUF file into a Hugging Face model directory; used by whoever registers a base model.

    python -m services.trainer.training.import_gguf --gguf FILE --out DIR

Prints one JSON line: parameter_count, context_length, family, license.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from services.trainer.training.quiet import quiet_libraries

# The file names its own licence in whatever case its author liked; the catalogue of models speaks SPDX.
_SPDX = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause", "cc-by-4.0": "CC-BY-4.0"}
# What transformers leaves behind after reading a GGUF file. With any of it in place `save_pretrained` refuses to write, although
# every weight has long been turned into a plain float tensor.
_QUANTIZATION_TRACES = ("hf_quantizer", "quantization_method", "is_quantized", "is_loaded_in_gguf")


def main() -> None:
    """Parse the arguments, convert, print the facts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, required=True, help="the file to read")
    parser.add_argument("--out", type=Path, required=True, help="the directory to make; it must not exist")
    arguments = parser.parse_args()
    quiet_libraries()
    os.environ["DS_ACCELERATOR"] = "cpu"  # peft's and transformers' glue asks DeepSpeed, which would warn about the lack of a GPU
    with contextlib.redirect_stdout(sys.stderr):
        facts = import_gguf(arguments.gguf, arguments.out)
    sys.stdout.write(json.dumps(facts) + "\n")


def import_gguf(gguf: Path, out: Path) -> dict[str, Any]:
    """Write `out` whole or not at all; returns the facts. Raises FileExistsError, and what transformers raises for a bad file."""
    if out.exists():
        raise FileExistsError(f"{out} exists; choose another directory or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        facts = _convert(gguf.resolve(), work)
        _open_to_readers(work)
        work.rename(out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return facts


def _convert(gguf: Path, work: Path) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    _forget_quantization(model)
    model.to(torch.float16).save_pretrained(work)
    tokenizer.save_pretrained(work)
    _write_missing_template(tokenizer.chat_template, work)
    return {
        "parameter_count": sum(parameter.numel() for parameter in model.parameters()),
        "context_length": int(model.config.max_position_embeddings),
        "family": str(model.config.model_type),
        "license": _license(gguf),
    }


def _forget_quantization(model: Any) -> None:
    for name in _QUANTIZATION_TRACES:
        if name in vars(model):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def _write_missing_template(template: str | None, work: Path) -> None:
    """Some versions of transformers keep the template inside tokenizer_config.json; readers look for the file first."""
    path = work / "chat_template.jinja"
    if template and not path.exists():
        path.write_text(template, encoding="utf-8")


def _open_to_readers(work: Path) -> None:
    """Temporary directories and some files of safetensors are private to their writer; a model is read by several services."""
    work.chmod(0o755)
    for path in work.iterdir():
        path.chmod(0o644)


def _license(gguf: Path) -> str:
    # The reader of the package `gguf` takes seconds more for the same: it makes an object of every token of the vocabulary.
    from transformers.integrations.gguf import read_gguf_metadata

    metadata, _ = read_gguf_metadata(str(gguf))
    name = str(metadata.get("general.license", ""))
    return _SPDX.get(name.lower(), name)


if __name__ == "__main__":
    main()
