"""What a classifier has answered that its own run has measured, as an artifact beside its weights; used by fine-tunings."""

import asyncio

from services.trainer.kinds.kind import Uploads
from services.trainer.run_directory import Result, RunDirectory
from services.trainer.storage_client import Adapter, adapter_files


async def rows_artifact(run: RunDirectory, uploads: Uploads) -> str:
    """Stores the rows and returns the artifact's name; empty when the process has left none. A repeat stores nothing new.

    They are no part of the weights: whoever gives those away does not give the data with them. Raises ServiceError.
    """
    files = await asyncio.to_thread(adapter_files, run.evaluation)
    if not files:
        return ""
    rows = Adapter(
        directory=run.evaluation,
        files=files,
        task=f"tasks/{run.request.name.task_id}",
        provenance=run.provenance(),
        result=Result(kind="EVALUATION", step=0, metrics={}, rendered_rows_sha256="", versions={}),
        request=run.request,
        request_id=f"{run.request.name} evaluation",
    )
    return (await uploads.upload_adapter(rows)).name
