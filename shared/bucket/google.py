"""Google Cloud Storage as the bucket needs it: gcsfs, with what it does otherwise put right.

This builds on the plain file system of gcsfs. The one that it registers first asks over gRPC what kind of bucket it has before it,
which does not survive a fork, takes a right of its own, and waits a minute for an answer.
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
"""What is smaller is sent with one request; the rest in pieces, each of which may be sent again."""

# what gcsfs does six times, and six times six for a file
_ask_once, _fetch_once = GCSFileSystem._request.__wrapped__, GCSFileSystem._get_file_request.__wrapped__


class GoogleStorage(GCSFileSystem):
    """Objects of Google Cloud Storage; the credentials are those that Google's libraries find in the environment.

    fsspec's own settings go before them: with ``FSSPEC_GS_TOKEN=anon`` there are none, as an emulator needs it.
    """

    def __init__(self, *, tries: int, token: Any = "google_default", **more: Any) -> None:  # noqa: S107 - the name of a way
        # by itself gcsfs would also take a login that lies in the home folder, and then go on as nobody
        super().__init__(token=token, **more)
        self._tries = tries

    async def _again(self, ask: Callable[..., Awaitable[Any]], *args: Any, **more: Any) -> Any:
        """Ask, and ask again where that may help."""
        for turn in range(self._tries - 1):
            try:
                return await ask(self, *args, **more)
            except (HttpError, *RETRIABLE_EXCEPTIONS) as error:
                if not is_retriable(error):
                    raise
                await asyncio.sleep(random.random() * 2**turn)  # noqa: S311 - no secret: so that not all come back at once
        return await ask(self, *args, **more)

    async def _request(self, *args: Any, **more: Any) -> Any:
        return await self._again(_ask_once, *args, **more)

    async def _get_file(self, rpath: str, lpath: str, **_: Any) -> None:
        await self._again(_fetch_once, rpath, lpath)

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        # what is asked for is a file; gcsfs would list the folder of this name as well
        return await self._get_object(path)

    async def _pipe_file(self, path: str, data: bytes, mode: str = "overwrite", **_: Any) -> None:
        # as it is: gcsfs would put it between two lines that may be in it as well
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
    """An object as it was when it was opened: of one that is replaced nothing more is read."""

    def _fetch_range(self, start: int | None = None, end: int | None = None) -> bytes:
        content: bytes = self.fs.cat_file(self.path, start=start, end=end, generation=self.details["generation"])
        return content
