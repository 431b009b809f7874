"""Models below a prefix of an S3 bucket that the operator allows."""

from collections.abc import AsyncIterator

from services.storage.object_store import ObjectStore
from services.storage.server_place import MAX_FILES, FoundFile, checked_path, is_hidden, not_found, too_many


class ServerPrefix:
    """What lies below `prefix`, empty or with a slash at its end, in the bucket of `store`; see ServerPlace."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    async def files(self, name: str) -> list[FoundFile]:
        """Objects behind the name and a slash, by path; see ServerPlace."""
        start = f"{self._prefix}{name}/"
        found = await self._store.list(start, MAX_FILES + 1)
        if len(found) > MAX_FILES:
            raise too_many(name)
        paths = [(item.key.removeprefix(start), item.size_bytes) for item in found]
        # What consoles make to show a directory.
        markers = {path for path, size_bytes in paths if size_bytes == 0 and (not path or path.endswith("/"))}
        files = [FoundFile(checked_path(path), size) for path, size in paths if path not in markers and not is_hidden(path)]
        if not files:
            raise not_found(name, "objects below the import prefix")
        return sorted(files, key=lambda file: file.path)

    def read(self, name: str, file: FoundFile) -> AsyncIterator[bytes]:
        """The bytes of an object; see ServerPlace."""
        return self._store.read(f"{self._prefix}{name}/{file.path}", 0, file.size_bytes)
