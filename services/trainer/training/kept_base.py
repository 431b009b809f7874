"""What a warm rank has read of a base model before there is a run: its renderer and its weights; kept by `practice`.

The first run of the process may have both, if it starts from the same directory; whatever does not fit is read anew.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.rendering import Renderer


@dataclass(slots=True)
class KeptBase:
    """`model` has weights in fp32 and is untouched: nobody has put an adapter into it, nothing of it has been trained."""

    directory: Path
    renderer: Renderer
    model: Any


_kept: list[KeptBase] = []


def keep(base: KeptBase) -> None:
    """Instead of what was kept before."""
    _kept[:] = [base]


def renderer_of(directory: Path) -> Renderer:
    """Of the model in `directory`; raises RenderError when it has to be read and cannot be."""
    return next((base.renderer for base in _kept if base.directory == directory), None) or Renderer.from_directory(directory)


def take_model(directory: Path, dtype: Any) -> Any | None:
    """The model of `directory`, its weights rounded to `dtype` as reading them anew would; None = it is not kept. Nothing is
    kept any more then.
    """
    found = next((base for base in _kept if base.directory == directory), None)
    _kept.clear()
    if found is None:
        return None
    # Not the whole module at once: the angles of positions stay fp32.
    for parameter in found.model.parameters():
        parameter.data = parameter.data.to(dtype)
    return found.model
