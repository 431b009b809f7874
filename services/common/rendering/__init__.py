"""The one place where messages become token ids and a loss mask; used by validation, training, preview and serving.

Needs no torch and no transformers: only the model directory's tokenizer.json and its chat template.
"""

from services.common.rendering.error import RenderError
from services.common.rendering.renderer import Rendered, Renderer
from services.common.rendering.rows import digest, render_row

__all__ = ["RenderError", "Rendered", "Renderer", "digest", "render_row"]
