"""The README.md of an exported model, in the form Hugging Face reads: facts in a header, prose below; used by the export."""

import json
from collections.abc import Mapping

from services.storage.registered_model import ExportDraft, Lineage

PATH = "README.md"
_USE_ADAPTER = """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained(BASE_MODEL_DIRECTORY)
model = PeftModel.from_pretrained(base, THIS_DIRECTORY)
```"""
_USE_MODEL = """```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(THIS_DIRECTORY)
```"""


def model_card(draft: ExportDraft, lineage: Lineage, license_name: str) -> bytes:
    """The card as UTF-8. `license_name` is the base model's, empty = not known."""
    base = lineage.base_model.rpartition("/")[2]
    sections = [
        _header(draft, base, license_name),
        f"# {draft.model}",
        draft.description or (f"{base}, fine-tuned with LoRA." if _is_adapter(draft) else f"{base}, fine-tuned as a whole."),
        "## Origin\n\n" + _table(_origin(draft, lineage)),
        "## Metrics\n\n" + (_table({name: f"{value:.6g}" for name, value in lineage.metrics.items()}) or "None were recorded."),
        "## Hyperparameters\n\n" + (_table(lineage.hyperparameters) or "None were recorded."),
        "## Licence\n\n" + _licence(base, license_name),
        "## Limits\n\n" + _limits(draft, base),
        "## Use\n\n" + (_USE_ADAPTER if _is_adapter(draft) else _USE_MODEL),
    ]
    return ("\n\n".join(sections) + "\n").encode()


def _is_adapter(draft: ExportDraft) -> bool:
    return draft.format == "ADAPTER"


def _header(draft: ExportDraft, base: str, license_name: str) -> str:
    library, tags = ("peft", ["- lora"]) if _is_adapter(draft) else ("transformers", [])
    # JSON texts are YAML texts: no value can break out of its line.
    facts = {"base_model": base, "library_name": library, "pipeline_tag": "text-generation"}
    if license_name:
        facts["license"] = license_name.lower()
    lines = [f"{key}: {json.dumps(value)}" for key, value in facts.items()]
    return "\n".join(["---", *lines, "tags:", *tags, "- tunesmith", "---"])


def _origin(draft: ExportDraft, lineage: Lineage) -> dict[str, str]:
    return {
        "base model": f"{lineage.base_model} (revision {lineage.base_model_revision or 'unknown'})",
        "task": f"{lineage.task}, step {lineage.step}",
        "artifact": f"artifacts/{draft.artifact}",
        "training data, SHA-256": lineage.dataset_sha256 or "unknown",
        **{f"{package} version": number for package, number in sorted(lineage.versions.items())},
    }


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
    alone = "These are LoRA weights alone: they need exactly the base model named above. " if _is_adapter(draft) else ""
    return alone + (
        f"What {base} cannot do, gets wrong or is biased in stays so, unless the training data taught otherwise. The metrics come"
        " from the training run; nobody has checked the model for a purpose."
    )
