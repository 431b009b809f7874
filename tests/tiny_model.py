"""A complete Hugging Face model directory of 27,136 random parameters, for every test that needs a model.

Written with numpy only, so making one takes a fraction of a second and imports neither torch nor transformers.
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

HIDDEN, LAYERS, HEADS, KEY_VALUE_HEADS, INTERMEDIATE = 32, 2, 4, 2, 64
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tiny_model(directory: Path, *, seed: int = 0, context_length: int = 512, chat_template: str = CHAT_TEMPLATE) -> Path:
    """Write weights, config, byte-level tokenizer and chat template of a random Llama into `directory`; return it."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab_size()
    save_file(_weights(vocabulary, seed), directory / "model.safetensors", metadata={"format": "pt"})
    end, pad = tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)
    _write_json(directory / "config.json", _config(vocabulary, context_length, end, pad))
    _write_json(directory / "generation_config.json", {"eos_token_id": end, "pad_token_id": pad})
    _write_json(directory / "tokenizer_config.json", _tokenizer_config(context_length))
    (directory / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    return directory


def tiny_tokenizer() -> Tokenizer:
    """One token per byte (and a few merges, so that words are shorter than their letters) plus the three control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("i", "n"), ("a", "n"), ("u", "s"), ("us", "e"), ("use", "r"), ("Ġ", "the")]
    tokens = [PAD, START, END, *alphabet, *(left + right for left, right in merges)]
    model = models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (PAD, START, END)])
    return tokenizer


def _weights(vocabulary: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    head = HIDDEN // HEADS

    def matrix(rows: int, columns: int) -> np.ndarray:
        return random.normal(0.0, columns**-0.5, (rows, columns)).astype(np.float32)

    # With a final norm of 1 and random embeddings no logit could exceed 5.7: not even a perfect adapter could be sure.
    final_norm = np.full(HIDDEN, 3.0, np.float32)
    weights = {"model.embed_tokens.weight": matrix(vocabulary, HIDDEN), "model.norm.weight": final_norm}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        weights |= {
            prefix + "self_attn.q_proj.weight": matrix(HIDDEN, HIDDEN),
            prefix + "self_attn.k_proj.weight": matrix(KEY_VALUE_HEADS * head, HIDDEN),
            prefix + "self_attn.v_proj.weight": matrix(KEY_VALUE_HEADS * head, HIDDEN),
            prefix + "self_attn.o_proj.weight": matrix(HIDDEN, HIDDEN),
            prefix + "mlp.gate_proj.weight": matrix(INTERMEDIATE, HIDDEN),
            prefix + "mlp.up_proj.weight": matrix(INTERMEDIATE, HIDDEN),
            prefix + "mlp.down_proj.weight": matrix(HIDDEN, INTERMEDIATE),
            prefix + "input_layernorm.weight": np.ones(HIDDEN, np.float32),
            prefix + "post_attention_layernorm.weight": np.ones(HIDDEN, np.float32),
        }
    return weights


def _config(vocabulary: int, context_length: int, end: int, pad: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "head_dim": HIDDEN // HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": context_length,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "vocab_size": vocabulary,
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": pad,
        "dtype": "float32",
    }


def _tokenizer_config(context_length: int) -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
    }


def _write_json(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
