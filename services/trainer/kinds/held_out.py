"""The rows that a split has held out as a dataset of their own, so that an evaluation can ask them; used by fine-tunings."""

from typing import cast

from services.common.catalogue import ErrorClass
from services.common.errors import ServiceError
from services.trainer.journal import Event
from services.trainer.kinds.fine_tuning_ask import FineTuning
from services.trainer.kinds.kind import Uploads
from services.trainer.run_directory import RunDirectory


async def held_out_rows(run: RunDirectory, uploads: Uploads) -> list[Event]:
    """Stores them and tells as what. The same rows under the same display name are the same dataset, so that a repeat stores
    nothing new, and tasks that try out numbers on the same data share one.

    Raises what passes; what does not costs the evaluation, not the result, and is told as a line of the log.
    """
    try:
        name = await uploads.upload_dataset(_display_name(cast(FineTuning, run.request.ask)), run.validation_data)
    except ServiceError as error:
        # A wrong key is the operator's to mend; the result waits for that, too.
        if error.error_class is ErrorClass.TRANSIENT or error.reason == "UNAUTHENTICATED":
            raise
        text = f"the rows that were held out could not be stored, so no evaluation follows: {error.message}"
        line = {"severity": "WARNING", "rank": -1, "source": "trainer", "text": text, "truncated": False, "step": 0}
        return [Event("log", line)]
    return [Event("rows_held_out", {"dataset": name})]


def _display_name(ask: FineTuning) -> str:
    more = f" and {len(ask.sources) - 1} more" if len(ask.sources) > 1 else ""
    return f"Held out of {ask.sources[0].dataset}{more} ({ask.validation_split_ratio:g}, seed {ask.seed})"
