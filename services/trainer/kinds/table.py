"""The kinds of runs this trainer executes; used wherever a run is told by what it is."""

from services.common.errors import InvalidArgument, Violation
from services.trainer.kinds.evaluation import EVALUATION
from services.trainer.kinds.export import EXPORT
from services.trainer.kinds.fine_tuning import FINE_TUNING
from services.trainer.kinds.generation import GENERATION
from services.trainer.kinds.kind import RunKind
from services.trainer.storage_client import Adapter
from tunesmith.v1 import artifact_pb2, trainer_service_pb2

KINDS = {kind.field: kind for kind in (FINE_TUNING, EVALUATION, GENERATION, EXPORT)}


def describe(adapter: Adapter) -> artifact_pb2.ArtifactManifest:
    """What the manifest of a run's result says of how it was made."""
    return KINDS[adapter.request.kind].manifest(adapter)


def kind_of(run: trainer_service_pb2.Run) -> RunKind:
    """Of a run's spec; raises InvalidArgument."""
    field = run.spec.WhichOneof("kind") or ""
    if field not in KINDS:
        raise InvalidArgument(Violation("run.spec", f"is of kind {field or 'none'}; this trainer runs {' and '.join(KINDS)}"))
    return KINDS[field]
