"""The store of zarr over fsspec, with patience: a key is tried again before it fails."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from zarr.storage import FsspecStore

from pipeline.dataset.place import faults, may_pass, pauses, unreachable


class PatientStore(FsspecStore):
    """Reads, writes and deletes keys of a remote store, again and again if it does not answer."""

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        """Value of a key, or None."""
        return await self._patiently(
            key, lambda: super(PatientStore, self).get(key, *args, **options)
        )

    async def set(self, key: str, *args: Any, **options: Any) -> None:
        """Write a key."""
        await self._patiently(key, lambda: super(PatientStore, self).set(key, *args, **options))

    async def exists(self, key: str) -> bool:
        """Whether there is such a key."""
        found: bool = await self._patiently(key, lambda: super(PatientStore, self).exists(key))
        return found

    async def delete(self, key: str) -> None:
        """Delete a key."""
        await self._patiently(key, lambda: super(PatientStore, self).delete(key))

    async def _patiently(self, key: str, call: Callable[[], Awaitable[Any]]) -> Any:
        for pause in pauses():
            try:
                return await call()
            except faults() as error:
                if not may_pass(error):
                    raise
            await asyncio.sleep(pause)
        try:
            return await call()
        except faults() as error:
            if not may_pass(error):
                raise
            raise unreachable(f"{self.fs.protocol} {self.path}/{key}", error) from error
