"""One row to renderings, every failure naming the row; used by previews and counts."""

from services.common.rendering import Rendered, Renderer, RenderError, render_row
from services.storage.tokens.row_lines import Row


def rendered(renderer: Renderer, row: Row, number: int) -> tuple[Rendered, ...]:
    """Raises RenderError, its message beginning with the row's number."""
    try:
        return render_row(renderer, row)
    except RenderError as error:
        raise RenderError(f"row {number}: {error.message}", reason=error.reason) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        # Rows come checked; one that does not is refused without a second checker here.
        message = f"row {number} is of no format that can be rendered: {type(error).__name__}: {error}"
        raise RenderError(message, reason="DATASET_UNUSABLE") from error
