"""Adapters of every sort become whole models and GGUF files, and what is wrong with one is found before anybody has it."""

import importlib.util
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_model import make_tiny_model
from transformers import AutoModelForCausalLM

from services.common.errors import ServiceError
from services.common.rendering.files import read_tokenizer
from services.trainer.checkpoint_files import SHARED
from services.trainer.training.config import Lora
from services.trainer.training.events import NullSink
from services.trainer.training.exporting import export as exporting
from services.trainer.training.exporting.config import ExportConfig
from services.trainer.training.exporting.stages import Stages

pytestmark = pytest.mark.integration

IDS = torch.tensor([[5, 17, 80, 3, 44, 9, 120]])


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The models are so small that threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


def with_adapter(base: Path, out: Path, scale: float = 0.3, **numbers: Any) -> Any:
    """An adapter that changes a lot, saved at `out`; returns the model with it."""
    torch.manual_seed(1)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear", **numbers)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=scale)
    model.save_pretrained(out, save_embedding_layers=False)
    return model.eval()


def config_of(base: Path, source: Path, work: Path, **changes: Any) -> ExportConfig:
    plain: dict[str, Any] = {
        "run": "runs/x-1",
        "base_model": "baseModels/tiny",
        "base_model_dir": base,
        "source_dir": source,
        "source_kind": "ADAPTER",
        "step": 7,
        "lora": None,
        "format": "MERGED",
        "gguf_type": "F16",
        "output_dir": work / "output",
    }
    work.mkdir(parents=True, exist_ok=True)
    return ExportConfig(**plain | changes)


def export(config: ExportConfig) -> dict[str, Any]:
    """The result."""
    exporting.export(config, Stages(NullSink(), logging.getLogger("test")))
    found: dict[str, Any] = json.loads((config.output_dir.parent / "result.json").read_text())
    return found


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits.float()


@pytest.mark.parametrize("numbers", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["lora", "rslora", "dora"])
def test_a_merged_model_is_what_the_adapter_was(base: Path, tmp_path: Path, numbers: dict[str, Any]) -> None:
    expected = logits(with_adapter(base, tmp_path / "adapter", **numbers))

    result = export(config_of(base, tmp_path / "adapter", tmp_path / "run"))

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "output", dtype=torch.float32).eval()
    assert torch.allclose(logits(model), expected, atol=1e-3)
    assert not torch.allclose(logits(AutoModelForCausalLM.from_pretrained(base)), expected, atol=0.5), "the adapter changes much"
    assert (result["kind"], result["step"], result["metrics"]["export_greedy_agreement"]) == ("MERGED", 7, 1.0)
    assert result["metrics"]["export_logit_difference_share"] < 1e-4
    assert set(result["versions"]) >= {"torch", "peft"}


def test_the_output_is_a_whole_directory_and_nothing_else_is_left(base: Path, tmp_path: Path) -> None:
    with_adapter(base, tmp_path / "adapter")
    (tmp_path / "run" / "output").mkdir(parents=True)

    export(config_of(base, tmp_path / "adapter", tmp_path / "run"))

    files = {path.name for path in (tmp_path / "run" / "output").iterdir()}
    names = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert files == names | {"chat_template.jinja"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"output", "result.json"}


def test_weights_stay_in_the_format_of_the_bases(base: Path, tmp_path: Path) -> None:
    half = make_tiny_model(tmp_path / "half")
    weights = {name: value.half() for name, value in load_file(half / "model.safetensors").items()}
    save_file(weights, half / "model.safetensors", metadata={"format": "pt"})
    with_adapter(half, tmp_path / "adapter", scale=0.02)

    result = export(config_of(half, tmp_path / "adapter", tmp_path / "run"))

    with safe_open(tmp_path / "run" / "output" / "model.safetensors", framework="pt") as found:
        kinds = {found.get_slice(name).get_dtype() for name in found.keys()}  # noqa: SIM118 - not a dict
    assert kinds == {"F16"}
    assert 1e-6 < result["metrics"]["export_logit_difference_share"] < 0.01


def test_a_checkpoint_is_exported_as_its_adapter_would_be(base: Path, tmp_path: Path) -> None:
    model = with_adapter(base, tmp_path / "adapter")
    (tmp_path / "checkpoint").mkdir()
    trained = {f"weight/model.{name}": value.detach() for name, value in model.named_parameters() if "lora_" in name}
    save_file(trained, tmp_path / "checkpoint" / SHARED)
    lora = Lora(rank=4, alpha=8.0, dropout=0.0, target_modules=("all-linear",), use_rslora=False, use_dora=False, last_layers=0)

    export(config_of(base, tmp_path / "checkpoint", tmp_path / "run", source_kind="CHECKPOINT", lora=lora))

    found = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "output").eval()
    assert torch.allclose(logits(found), logits(model), atol=1e-3)


@pytest.mark.parametrize(("kind", "scale"), [("F32", 0.3), ("F16", 0.02), ("Q8_0", 0.02)], ids=["f32", "f16", "q8_0"])
def test_a_gguf_file_is_read_back_as_what_the_adapter_was(base: Path, tmp_path: Path, kind: str, scale: float) -> None:
    expected = logits(with_adapter(base, tmp_path / "adapter", scale))

    result = export(config_of(base, tmp_path / "adapter", tmp_path / "run", format="GGUF", gguf_type=kind))

    (file,) = (tmp_path / "run" / "output").iterdir()
    assert file.name == f"model-{kind}.gguf"
    found = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    share = float((logits(found) - expected).square().mean().sqrt() / expected.std())
    assert share < {"F32": 1e-4, "F16": 0.01, "Q8_0": 0.08}[kind]
    assert result["kind"] == "GGUF"


def test_a_gguf_file_tells_the_tokenizer_and_the_template(base: Path, tmp_path: Path) -> None:
    from gguf import GGUFReader

    with_adapter(base, tmp_path / "adapter", 0.02)
    export(config_of(base, tmp_path / "adapter", tmp_path / "run", format="GGUF"))

    fields = GGUFReader(next((tmp_path / "run" / "output").iterdir())).fields
    told = {name: field.contents() for name, field in fields.items() if not name.startswith("GGUF.")}
    tokenizer = read_tokenizer(base)
    assert (told["general.architecture"], told["tokenizer.ggml.model"], told["tokenizer.ggml.pre"]) == ("llama", "gpt2", "gpt-2")
    assert told["tokenizer.ggml.tokens"] == [tokenizer.id_to_token(index) for index in range(tokenizer.get_vocab_size())]
    assert told["tokenizer.ggml.eos_token_id"] == tokenizer.token_to_id("<|im_end|>")
    assert told["tokenizer.chat_template"] == (base / "chat_template.jinja").read_text()
    assert (told["llama.attention.head_count"], told["llama.attention.head_count_kv"], told["llama.context_length"]) == (
        4,
        2,
        512,
    )


def test_a_merged_model_becomes_gguf_as_its_adapter_does(base: Path, tmp_path: Path) -> None:
    with_adapter(base, tmp_path / "adapter", 0.02)
    export(config_of(base, tmp_path / "adapter", tmp_path / "one"))
    export(config_of(base, tmp_path / "adapter", tmp_path / "direct", format="GGUF", gguf_type="F32"))

    merged = config_of(base, tmp_path / "one" / "output", tmp_path / "two", source_kind="MERGED", format="GGUF", gguf_type="F32")
    export(merged)

    one, two = (next((tmp_path / name / "output").iterdir()).read_bytes() for name in ("direct", "two"))
    assert one == two


def test_a_merge_that_went_wrong_is_refused_and_leaves_nothing(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_adapter(base, tmp_path / "adapter")
    # As a merge that forgets the adapter would.
    monkeypatch.setattr(exporting, "merged", lambda model: model.unload())
    config = config_of(base, tmp_path / "adapter", tmp_path / "run")

    with pytest.raises(ServiceError) as caught:
        export(config)

    assert caught.value.reason == "EXPORT_UNFAITHFUL"
    assert not config.output_dir.exists()
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_weak_adapter_is_not_lost_unseen(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = make_tiny_model(tmp_path / "half")
    weights = {name: value.half() for name, value in load_file(half / "model.safetensors").items()}
    save_file(weights, half / "model.safetensors", metadata={"format": "pt"})
    with_adapter(half, tmp_path / "adapter", scale=0.001)
    effect = export(config_of(half, tmp_path / "adapter", tmp_path / "good"))["metrics"]["export_adapter_effect_share"]
    assert effect < 0.01, "what rounding may do by itself"
    monkeypatch.setattr(exporting, "merged", lambda model: model.unload())

    with pytest.raises(ServiceError) as caught:
        export(config_of(half, tmp_path / "adapter", tmp_path / "lost"))

    assert caught.value.reason == "EXPORT_UNFAITHFUL"


@pytest.mark.parametrize("damage", ["missing", "pickled", "foreign"])
def test_an_adapter_that_cannot_be_used_is_named(base: Path, tmp_path: Path, damage: str) -> None:
    adapter = tmp_path / "adapter"
    with_adapter(base, adapter)
    if damage == "pickled":
        torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    if damage == "foreign":
        config = json.loads((adapter / "adapter_config.json").read_text()) | {"task_type": "SEQ_CLS"}
        (adapter / "adapter_config.json").write_text(json.dumps(config))
    else:
        (adapter / "adapter_model.safetensors").unlink()

    with pytest.raises(ServiceError) as caught:
        export(config_of(base, adapter, tmp_path / "run"))

    assert caught.value.reason == "ARTIFACT_UNUSABLE"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")
def test_llama_cpp_answers_as_the_adapter_does(base: Path, tmp_path: Path) -> None:
    from llama_cpp import Llama

    model = with_adapter(base, tmp_path / "adapter", 0.02)
    export(config_of(base, tmp_path / "adapter", tmp_path / "run", format="GGUF", gguf_type="F32"))
    prompt = IDS[0].tolist()
    expected = model.generate(input_ids=IDS, max_new_tokens=8, do_sample=False, eos_token_id=None)[0, len(prompt) :].tolist()

    llama = Llama(str(next((tmp_path / "run" / "output").iterdir())), n_ctx=64, verbose=False)
    try:
        found = [token for token, _ in zip(llama.generate(prompt, temp=0.0), range(8), strict=False)]
    finally:
        llama.close()

    assert found == expected
