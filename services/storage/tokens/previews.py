"""What a base model is given for a row, as a message; used by the command `preview`."""

from services.common.rendering import Rendered, Renderer, digest
from services.storage.tokens.row_lines import Row
from services.storage.tokens.row_rendering import rendered
from tunesmith.v1 import dataset_service_pb2 as pb2

_ROLES = {1: ("",), 2: ("preferred", "non_preferred")}


def preview_row(renderer: Renderer, row: Row, number: int, max_seq_length: int) -> pb2.RowPreview:
    """Raises RenderError."""
    renderings = rendered(renderer, row, number)
    roles = _ROLES[len(renderings)]
    return pb2.RowPreview(
        row=number,
        renderings=[_rendering(one, role, max_seq_length) for one, role in zip(renderings, roles, strict=True)],
        sha256=digest(renderings),
    )


def _rendering(one: Rendered, role: str, max_seq_length: int) -> pb2.Rendering:
    tokens = [
        pb2.PreviewToken(id=token, start=start, end=end, trained=trained, cut=index >= max_seq_length)
        for index, (token, (start, end), trained) in enumerate(zip(one.token_ids, one.offsets, one.loss_mask, strict=True))
    ]
    count = sum(token.trained and not token.cut for token in tokens)
    return pb2.Rendering(role=role, text=one.text, tokens=tokens, trainable_token_count=count)
