"""The adapters beside one base model, by peft; used by the transformers engine.

peft replaces layers inside the model it is given, so the model itself keeps being called: plain, or with one adapter active.
"""

import pathlib
from typing import Any

import structlog
from peft import LoraConfig, PeftConfig, PeftModelForCausalLM
from safetensors import SafetensorError

from services.common.errors import ServiceError

log = structlog.get_logger()


class Adapters:
    """Hot-loaded adapters of one model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._wrapper: Any = None

    def load(self, name: str, directory: pathlib.Path) -> None:
        """Loads a LoRA adapter in peft's layout; raises ServiceError (ARTIFACT_UNUSABLE) and leaves nothing behind then."""
        try:
            self._load(name, directory)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            log.exception("adapter.load_failed", adapter=name)
            self.unload(name)
            raise ServiceError("ARTIFACT_UNUSABLE", f"{name} does not load: {error}") from error

    def activate(self, name: str | None) -> None:
        """Lets the next calls of the model use the adapter, or none of them."""
        if self._wrapper is None:
            return
        if name is None:
            self._wrapper.base_model.disable_adapter_layers()
        else:
            self._wrapper.base_model.enable_adapter_layers()
            self._wrapper.set_adapter(_key(name), inference_mode=True)

    def unload(self, name: str) -> None:
        """Frees an adapter; with the last one the model gets its own layers back."""
        if self._wrapper is None or _key(name) not in self._wrapper.peft_config:
            return
        if len(self._wrapper.peft_config) > 1:
            # peft puts another adapter in the place of an active one and warns; what is active is set before every answer anyway.
            self._wrapper.base_model.enable_adapter_layers()
            other = next(key for key in self._wrapper.peft_config if key != _key(name))
            self._wrapper.set_adapter(other, inference_mode=True)
            self._wrapper.delete_adapter(_key(name))
        else:
            self._wrapper.unload()
            self._wrapper = None

    def _load(self, name: str, directory: pathlib.Path) -> None:
        # Without this file peft would look for pickled weights.
        if not (directory / "adapter_model.safetensors").is_file():
            raise ValueError("it has no adapter_model.safetensors")
        config = PeftConfig.from_pretrained(str(directory))
        if not isinstance(config, LoraConfig):
            raise TypeError(f"its type is {config.peft_type}, expected LORA")
        if config.task_type == "SEQ_CLS":
            raise ValueError("it tells labels apart and cannot chat")
        config.inference_mode = True
        # low_cpu_mem_usage: no time for random numbers that the weights replace anyway.
        if self._wrapper is None:
            self._wrapper = PeftModelForCausalLM(self._model, config, adapter_name=_key(name), low_cpu_mem_usage=True)
        result = self._wrapper.load_adapter(str(directory), _key(name), torch_device="cpu", low_cpu_mem_usage=True)
        if result.missing_keys or result.unexpected_keys:
            raise ValueError(f"its weights do not fit: {[*result.missing_keys, *result.unexpected_keys][:3]}")


def _key(name: str) -> str:
    """A module name: peft keeps adapters in a ModuleDict, which allows no dots."""
    return name.replace("/", "-").replace(".", "-")
