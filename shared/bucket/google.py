"""gcsfs with our retry count, conditional puts, and reads pinned to one object generation.

This builds on gcsfs' plain file system. The one that gcsfs registers by default first asks over gRPC which kind of bucket it has. That
call does not survive a fork, needs an extra permission, and waits up to a minute for an answer.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gcsfs.core import GCSFile, GCSFileSystem
from gcsfs.retry import RETRIABLE_EXCEPTIONS, HttpError, is_retriable

ONE_REQUEST_BYTES = 5 << 20
"""Files below this size, in bytes, are uploaded in one request; larger ones in pieces, each of which can be retried."""

# without gcsfs' retry decorators: six tries per request, and six times six per file
_ask_once, _fetch_once = GCSFileSystem._request.__wrapped__, GCSFileSystem._get_file_request.__wrapped__


class GoogleStorage(GCSFileSystem):
    """A file system for Google Cloud Storage. The credentials are those that Google's libraries find in the environment.

    fsspec's own settings take precedence: ``FSSPEC_GS_TOKEN=anon`` sends none, as an emulator needs.
    """

    def __init__(self, *, tries: int, token: Any = "google_default", **more: Any) -> None:  # noqa: S107 - not a password
        # by default gcsfs would also use a login from the home folder, and fall back to anonymous access
        super().__init__(token=token, **more)
        self._tries = tries

    async def _retry(self, ask: Callable[..., Awaitable[Any]], *args: Any, **more: Any) -> Any:
        """Calls ``ask``, and repeats it after a random wait when the error is retriable."""
        for turn in range(self._tries - 1):
            try:
                return await ask(self, *args, **more)
            except (HttpError, *RETRIABLE_EXCEPTIONS) as error:
                if not is_retriable(error):
                    raise
                await asyncio.sleep(random.random() * 2**turn)  # noqa: S311 - jitter, not a secret
        return await ask(self, *args, **more)

    async def _request(self, *args: Any, **more: Any) -> Any:
        return await self._retry(_ask_once, *args, **more)

    async def _get_file(self, rpath: str, lpath: str, **_: Any) -> None:
        await self._retry(_fetch_once, rpath, lpath)

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        # always a file: gcsfs would also list the folder of this name
        return await self._get_object(path)

    async def _pipe_file(self, path: str, data: bytes, mode: str = "overwrite", **_: Any) -> None:
        # the plain bytes: gcsfs would send a multipart body, whose boundary may occur in the data
        bucket, key, _generation = self.split_path(path)
        condition = {"ifGenerationMatch": "0"} if mode == "create" else {}
        place = f"{self._location}/upload/storage/v1/b/{quote(bucket, safe='')}/o"
        kind = {"Content-Type": "application/octet-stream"}
        await self._call("POST", place, uploadType="media", name=key, data=data, headers=kind, **condition)

    async def _put_file(self, lpath: str, rpath: str, **more: Any) -> None:
        local = Path(lpath)
        if local.stat().st_size < ONE_REQUEST_BYTES:
            await self._pipe_file(rpath, local.read_bytes())
        else:
            await super()._put_file(lpath, rpath, **more)

    def _open(self, path: str, mode: str = "rb", **more: Any) -> "_OpenObject":
        return _OpenObject(self, path, mode, **more)


class _OpenObject(GCSFile):
    """An open object, pinned to the generation that was opened: reads of a replaced object fail."""

    def _fetch_range(self, start: int | None = None, end: int | None = None) -> bytes:
        content: bytes = self.fs.cat_file(self.path, start=start, end=end, generation=self.details["generation"])
        return content
