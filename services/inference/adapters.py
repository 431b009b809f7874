"""The adapters beside one base model, loaded by peft or, where that is enough, as matrices; used by the running batch."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from peft import LoraConfig, PeftConfig, PeftModelForCausalLM
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError

from services.common.errors import ServiceError
from services.inference.plain_lora import read_plain
from services.inference.row_lora import RowLora

log = structlog.get_logger()


class Adapters:
    """Hot-loaded adapters of one model.

    peft replaces layers inside the model it is given, so the model itself keeps being called: after `route`, each row of the next
    calls goes through its own adapter, or through none. `layers` of the model, by path, are those that `rows` is applied to
    without peft: adapters that are plain matrices for these change nothing in the model.
    """

    def __init__(self, model: Any, layers: Mapping[str, Any]) -> None:
        self._model = model
        self._layers = layers
        self._wrapper: Any = None
        self.rows = RowLora()

    def load(self, name: str, directory: pathlib.Path) -> None:
        """Loads a LoRA adapter in peft's layout; raises ServiceError (ARTIFACT_UNUSABLE) and leaves nothing behind then."""
        try:
            self._load(name, directory)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            log.exception("adapter.load_failed", adapter=name)
            self.unload(name)
            self._take_back(_key(name))
            raise ServiceError("ARTIFACT_UNUSABLE", f"{name} does not load: {error}") from error

    def route(self, names: Sequence[str | None]) -> None:
        """The adapter of each row of the next calls; None = the base model alone."""
        self.rows.route([name and _key(name) for name in names])

    def unload(self, name: str) -> None:
        """Frees an adapter; with the last of peft's the model gets its own layers back."""
        if self.rows.take_out(_key(name)) or self._wrapper is None or _key(name) not in self._wrapper.peft_config:
            return
        if len(self._wrapper.peft_config) > 1:
            # peft puts another adapter in the place of an active one and warns; which is active plays no part here.
            other = next(key for key in self._wrapper.peft_config if key != _key(name))
            self._wrapper.set_adapter(other, inference_mode=True)
            self._wrapper.delete_adapter(_key(name))
        else:
            self._wrapper.unload()
            self._wrapper = None
        self.rows.install(self._model)

    def _take_back(self, key: str) -> None:
        """Takes out what peft has put into the model before it failed, of which it knows nothing itself."""
        for path, layer in [each for each in self._model.named_modules() if isinstance(each[1], LoraLayer)]:
            layer.delete_adapter(key)
            if not (layer.lora_A or layer.lora_embedding_A):
                self._model.set_submodule(path, layer.get_base_layer())
        self.rows.install(self._model)

    def _load(self, name: str, directory: pathlib.Path) -> None:
        config = _config(directory)
        if matrices := read_plain(directory, config, self._layers):
            self.rows.put(_key(name), matrices)
            return
        # low_cpu_mem_usage: no time for random numbers that the weights replace anyway.
        if self._wrapper is None:
            self._wrapper = PeftModelForCausalLM(self._model, config, adapter_name=_key(name), low_cpu_mem_usage=True)
        result = self._wrapper.load_adapter(str(directory), _key(name), torch_device="cpu", low_cpu_mem_usage=True)
        if result.missing_keys or result.unexpected_keys:
            raise ValueError(f"its weights do not fit: {[*result.missing_keys, *result.unexpected_keys][:3]}")
        # In a batch they would spoil every row.
        own = [value for path, value in self._model.named_parameters() if f".{_key(name)}." in f"{path}."]
        if not all(bool(value.isfinite().all()) for value in own):
            raise ValueError("its weights are not finite")
        self.rows.install(self._model)


def _config(directory: pathlib.Path) -> LoraConfig:
    # Without this file peft would look for pickled weights.
    if not (directory / "adapter_model.safetensors").is_file():
        raise ValueError("it has no adapter_model.safetensors")
    config = PeftConfig.from_pretrained(str(directory))
    if not isinstance(config, LoraConfig):
        raise TypeError(f"its type is {config.peft_type}, expected LORA")
    if config.task_type == "SEQ_CLS":
        raise ValueError("it tells labels apart and cannot chat")
    # Such weights replace the base model's for every row of a batch.
    if config.modules_to_save or config.bias != "none" or config.trainable_token_indices:
        raise ValueError("it changes more than its LoRA weights, expected no modules_to_save, bias or trainable_token_indices")
    config.inference_mode = True
    return config


def _key(name: str) -> str:
    """A module name: peft keeps adapters in a ModuleDict, which allows no dots. No two names have the same: none has a comma."""
    return name.replace("/", "-").replace(".", ",")
