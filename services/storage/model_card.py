"""The README.md of an exported model, in the form Hugging Face reads: facts in a header, prose below; used by the export."""

import dataclasses
import json
from collections.abc import Mapping

from services.storage.registered_model import ExportDraft, Lineage

PATH = "README.md"
_EXPORT = "export_"
"""Metrics that an export has measured begin so."""
_USE_ADAPTER = """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained(BASE_MODEL_DIRECTORY)
model = PeftModel.from_pretrained(base, THIS_DIRECTORY)
```"""
_USE_GGUF = """```sh
llama-cli -m THIS_DIRECTORY/model-*.gguf
```"""
_USE_MODEL = """```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(THIS_DIRECTORY)
```"""


def model_card(draft: ExportDraft, lineage: Lineage, license_name: str) -> bytes:
    """The card as UTF-8. `license_name` is the base model's, empty = not known."""
    base, form = lineage.base_model.rpartition("/")[2], _FORMS[draft.format]
    sections = [
        _header(draft, base, license_name),
        f"# {draft.model}",
        draft.description or form.summary.format(base=base),
        "## Origin\n\n" + _table(_origin(draft, lineage)),
        "## Form\n\n" + _table(_form(draft, lineage)),
        "## Metrics\n\n" + (_table(_numbers(lineage, of_export=False)) or "None were recorded."),
        "## Hyperparameters\n\n" + (_table(lineage.hyperparameters) or "None were recorded."),
        "## Licence\n\n" + _licence(base, license_name),
        "## Limits\n\n" + _limits(draft, base),
        "## Use\n\n" + form.use,
    ]
    return ("\n\n".join(sections) + "\n").encode()


@dataclasses.dataclass(frozen=True, slots=True)
class _Form:
    """What a card says of one format."""

    text: str
    summary: str
    library: str
    use: str
    tags: tuple[str, ...] = ()
    limit: str = ""


_FORMS = {
    "ADAPTER": _Form(
        "LoRA weights alone, for peft",
        "{base}, fine-tuned with LoRA.",
        "peft",
        _USE_ADAPTER,
        ("lora",),
        "These are LoRA weights alone: they need exactly the base model named above. ",
    ),
    "MODEL": _Form("whole model, for transformers", "{base}, fine-tuned as a whole.", "transformers", _USE_MODEL),
    "MERGED": _Form(
        "whole model, the adapter added to the weights of its base; for transformers",
        "{base}, fine-tuned, in one piece.",
        "transformers",
        _USE_MODEL,
    ),
    "GGUF": _Form(
        "one GGUF file, for llama.cpp and programs that build on it",
        "{base}, fine-tuned, as GGUF.",
        "gguf",
        _USE_GGUF,
        ("gguf",),
        "Programs that read GGUF have tokenizers of their own; compare some answers before you rely on them. ",
    ),
}


def _form(draft: ExportDraft, lineage: Lineage) -> dict[str, str]:
    """What the files are, and how far the export's check found them from what they were made of."""
    made_from = {"made from": lineage.parent} if lineage.parent else {}
    return {"format": _FORMS[draft.format].text, **made_from, **_numbers(lineage, of_export=True)}


def _numbers(lineage: Lineage, *, of_export: bool) -> dict[str, str]:
    chosen = {name: value for name, value in lineage.metrics.items() if name.startswith(_EXPORT) is of_export}
    return {name.removeprefix(_EXPORT).replace("_", " ") if of_export else name: f"{value:.6g}" for name, value in chosen.items()}


def _header(draft: ExportDraft, base: str, license_name: str) -> str:
    form = _FORMS[draft.format]
    # JSON texts are YAML texts: no value can break out of its line.
    facts = {"base_model": base, "library_name": form.library, "pipeline_tag": "text-generation"}
    if license_name:
        facts["license"] = license_name.lower()
    lines = [f"{key}: {json.dumps(value)}" for key, value in facts.items()]
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in form.tags), "- tunesmith", "---"])


def _origin(draft: ExportDraft, lineage: Lineage) -> dict[str, str]:
    return {
        "base model": f"{lineage.base_model} (revision {lineage.base_model_revision or 'unknown'})",
        "task": f"{lineage.task}, step {lineage.step}",
        "artifact": f"artifacts/{draft.artifact}",
        **_data(lineage),
        **{f"{package} version": number for package, number in sorted(lineage.versions.items())},
    }


def _data(lineage: Lineage) -> dict[str, str]:
    """The training data by checksum; of a mixture every part with its weight."""
    parts = lineage.datasets
    if lineage.dataset_sha256 or not parts:
        return {"training data, SHA-256": lineage.dataset_sha256 or "unknown"}
    return {f"training data {part.name}, SHA-256": f"{part.sha256}, weight {part.weight:g}" for part in parts}


def _table(facts: Mapping[str, str]) -> str:
    if not facts:
        return ""
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _licence(base: str, license_name: str) -> str:
    if not license_name:
        return f"The licence of {base} is not known to the system that made this model. Find it out before you pass the model on."
    return f"{base} is under {license_name}; that binds what was made from it, too. The training data may add terms of its own."


def _limits(draft: ExportDraft, base: str) -> str:
    return _FORMS[draft.format].limit + (
        f"What {base} cannot do, gets wrong or is biased in stays so, unless the training data taught otherwise. The metrics come"
        " from the training run; nobody has checked the model for a purpose."
    )
