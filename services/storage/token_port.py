"""What the service asks of the process that renders and counts tokens; implemented by `services.storage.tokens.client`."""

import pathlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from services.storage.dataset import Json


class Tokens(Protocol):
    """Work with a base model's tokenizer and chat template; `directory` holds its small files.

    Every method raises ServiceError when the process fails.
    """

    async def gate(self, directory: pathlib.Path) -> str:
        """Why the chat template cannot train, empty when it can."""

    async def preview(
        self, directory: pathlib.Path, rows: Sequence[bytes], first_row: int, max_seq_length: int
    ) -> Sequence[Json]:
        """Per row a tunesmith.v1.RowPreview; `first_row` is the number of the first."""

    async def analyze(self, directory: pathlib.Path, chunks: AsyncIterator[bytes], max_seq_length: int, size_bytes: int) -> Json:
        """A tunesmith.v1.TokenStatistics without the names of base model and revision; `size_bytes` is what comes."""

    async def overlap(self, chunks: AsyncIterator[bytes], against: AsyncIterator[bytes], size_bytes: int) -> Json:
        """A tunesmith.v1.DatasetOverlap without the name of the other dataset; `size_bytes` is what comes, of both."""
