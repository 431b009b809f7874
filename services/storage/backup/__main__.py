"""`python -m services.storage.backup save|restore DIRECTORY PROGRAM [--skip-damaged]`, with the settings of the storage service.

PROGRAM is pg_dump or pg_restore. Prints one JSON object: what was done, or `error` with reason, message and hint and exit code 1.
"""

import asyncio
import json
import os
import pathlib
import sys
from typing import Any

import psycopg

from services.common import config, logs
from services.common.errors import ServiceError
from services.storage.backup.archive import Archive, Manifest, total_bytes
from services.storage.backup.restoring import restore
from services.storage.backup.saving import save
from services.storage.object_store import MinioObjectStore
from services.storage.settings import StorageSettings


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    action, directory, program, *options = arguments
    os.umask(0o077)
    settings = config.load(StorageSettings, "TUNESMITH_STORAGE_", os.environ)
    logs.configure("backup", settings.log_level)
    try:
        done = asyncio.run(_run(settings, action, Archive(pathlib.Path(directory)), pathlib.Path(program), options))
    except ServiceError as error:
        return _say_error(error.reason, error.message, error.hint)
    except psycopg.OperationalError as error:
        return _say_error("POSTGRES_UNAVAILABLE", str(error).partition("\n")[0], "Start Postgres, then try again.")
    except OSError as error:
        return _say_error("FILE_UNUSABLE", str(error), "Check the path, its permissions and the space on the disk.")
    print(json.dumps(done))  # noqa: T201 - the answer to the process that started this one
    return 0


async def _run(
    settings: StorageSettings, action: str, archive: Archive, program: pathlib.Path, options: list[str]
) -> dict[str, Any]:
    store = MinioObjectStore(
        settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        bucket=settings.s3_bucket,
        region=settings.s3_region,
    )
    await store.prepare()
    dsn, environment = settings.postgres_dsn, dict(os.environ)
    if action == "save":
        saved = await save(dsn, store, archive, program, environment)
        return {**_facts(saved.manifest), "copied": saved.copied}
    return _facts(await restore(dsn, store, archive, program, environment, skip_damaged="--skip-damaged" in options))


def _facts(manifest: Manifest) -> dict[str, Any]:
    contents = manifest.contents
    facts = {"contents": len(contents), "bytes": total_bytes(contents), "damaged": list(manifest.damaged)}
    return {"create_time": manifest.create_time, **facts}


def _say_error(reason: str, message: str, hint: str) -> int:
    print(json.dumps({"error": {"reason": reason, "message": message, "hint": hint}}))  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
