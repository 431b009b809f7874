"""What the checker says of a file; used by the dataset uploads."""

import dataclasses
from collections.abc import Mapping, Sequence

from services.common.errors import ServiceError
from services.storage.dataset import Json, RowIndex


@dataclasses.dataclass(frozen=True, slots=True)
class CheckOutcome:
    """The end of a check."""

    report: Json
    """tunesmith.v1.DatasetReport."""
    refusal: ServiceError | None
    """Why the file is not taken; None = no bad rows, or no more than the budget covers."""
    dropped_rows_by_reason: Mapping[str, int]
    row_count: int
    rows_size_bytes: int
    rows_sha256: str
    rows_equal_file: bool
    """The usable rows are byte for byte the file, so that it need not be kept twice."""
    index: RowIndex

    @property
    def format(self) -> str:
        """Name of a Dataset.Format."""
        return str(self.report["format"])

    @property
    def statistics(self) -> Json:
        """tunesmith.v1.DatasetStatistics."""
        return dict(self.report.get("statistics", {}))

    @property
    def warnings(self) -> Sequence[Json]:
        """tunesmith.v1.DatasetWarning."""
        return list(self.report.get("warnings", []))
