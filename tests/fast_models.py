"""Random Llamas and Qwen2s small enough to run in double precision, where equal means equal."""

import contextlib

import torch
from torch.nn import functional
from training_configs import numbers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from services.trainer.training.model import add_adapter

VOCABULARY = 96
FAMILIES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}


def network(family="llama", **changes):
    """Every weight random, also those that usually begin as ones or zeros."""
    torch.manual_seed(0)
    shape, kind = FAMILIES[family]
    sizes = {"hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 3, "vocab_size": VOCABULARY}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 256}
    made = kind(shape(**sizes | heads | changes))
    for parameter in made.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, 1.0, 0.3)
    return made


def adapted(made, **lora):
    """With an adapter that already does something."""
    torch.manual_seed(1)
    model = add_adapter(made, numbers(lora=lora).lora, "CAUSAL_LM")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def frozen_in_bf16(model):
    """What is not trained is rounded, as a run with that precision holds it."""
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    return model


def double(model):
    """In double precision throughout: the norms of transformers would go through single precision."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = lambda x, norm=module: functional.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)
    return model.double()


LLAMA3_POSITIONS = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS = {
    "llama-lora": lambda: adapted(network("llama")),
    "llama-lora-some": lambda: adapted(network("llama"), target_modules=["q_proj", "v_proj", "down_proj"]),
    "llama-last-layers": lambda: adapted(network("llama"), last_layers=2),
    "llama-last-layer": lambda: adapted(network("llama"), last_layers=1, target_modules=["q_proj", "down_proj"]),
    "llama-rslora": lambda: adapted(network("llama"), use_rslora=True, rank=3),
    "llama-full": lambda: network("llama", tie_word_embeddings=True),
    "llama-biases": lambda: network("llama", attention_bias=True),
    "llama-wide-heads": lambda: adapted(network("llama", head_dim=12)),
    "llama3-positions": lambda: network("llama", rope_parameters=LLAMA3_POSITIONS),
    "qwen2-lora": lambda: adapted(network("qwen2")),
    "qwen2-full": lambda: network("qwen2"),
}


@contextlib.contextmanager
def threads(count):
    """So many of torch inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def gradients(model, loss):
    """(loss, gradient by name) and the model without gradients again."""
    model.zero_grad()
    loss.backward()
    found = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    return loss.detach(), found


def assert_equal(ours, theirs, *, rtol=1e-9, atol=1e-9):
    """Of (loss, gradients)."""
    torch.testing.assert_close(ours[0], theirs[0], rtol=rtol, atol=atol, check_dtype=False)
    assert ours[1].keys() == theirs[1].keys()
    assert any(gradient.abs().max() > 1e-4 for gradient in theirs[1].values())
    for name, gradient in theirs[1].items():
        torch.testing.assert_close(ours[1][name], gradient, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}")
