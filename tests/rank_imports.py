"""What a rank has done before it is forked: its imports, and the hundreds of patterns that transformers compiles before it loads
its first model. Together with those a short run takes twice the time."""

import services.trainer.training.imports  # noqa: F401, I001 - first: it prepares what the others import

from transformers.conversion_mapping import get_checkpoint_conversion_mapping

get_checkpoint_conversion_mapping("llama")
