"""A model in a bucket → the same files in a directory: list once, take only the model, in parts, side by side.

Every part is asked for as the object was when it was listed, so that an upload in between is noticed, not mixed in.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import obstore
from obstore.store import ObjectStore

from contracts.errors import InvalidInput, NotFound
from serving.fetch.files import MAX_LISTED, Listing, Remote
from serving.stores import Address, said

PART = 8 << 20  # bytes asked for at once
SIDE_BY_SIDE = 8  # parts under way; times PART is what they need in memory

_log = logging.getLogger(__name__)

Arrived = Callable[[int], None]  # so many bytes more are on the disk


@dataclass(frozen=True)
class Bucket:
    """What lies below one address of an open store."""

    store: ObjectStore
    address: Address

    def listing(self) -> Listing:
        """Everything below the address, nothing else of the bucket. Raise NotFound when nothing is there."""
        files: list[Remote] = []
        with said(self.address):
            for chunk in obstore.list(self.store, self.address.key or None):
                for meta in chunk:
                    path = meta["path"].removeprefix(self.address.key).lstrip("/")
                    files.append(Remote(path, meta["size"], meta["e_tag"]))
                if len(files) > MAX_LISTED:
                    raise InvalidInput(
                        f"source {self.address}: more than {MAX_LISTED} objects are below: name the model's own place"
                    )
        found = Listing(files, self.read)
        if not found.files:
            raise NotFound(f"{self.address}: there is no such object, and none below it")
        return found

    def file(self, name: str) -> Remote | None:
        """The object `name` directly below the address, None when there is none."""
        at = self._at(name)
        try:
            with said(at):
                meta = obstore.head(self.store, at.key)
        except NotFound:
            return None
        return Remote(name, meta["size"], meta["e_tag"])

    def read(self, file: Remote, size: int) -> bytes:
        return self._part(file, 0, size) if size else b""

    def download(self, files: Sequence[Remote], target: Path, arrived: Arrived) -> None:
        """Write `files` below `target`. Their paths were checked. Raises what went wrong first."""
        ended = threading.Event()
        with ThreadPoolExecutor(SIDE_BY_SIDE, "fetch") as pool:
            parts = []
            for file in files:
                place = target / file.path
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("xb") as stream:
                    stream.truncate(file.size)
                for start in range(0, file.size, PART):
                    parts.append(pool.submit(self._bring, file, start, place, arrived, ended))
            done, _ = wait(parts, return_when=FIRST_EXCEPTION)
            ended.set()  # the rest returns at once
            for part in done:
                part.result()

    def _bring(self, file: Remote, start: int, place: Path, arrived: Arrived, ended: threading.Event) -> None:
        if ended.is_set():
            return
        content = self._part(file, start, min(start + PART, file.size))
        descriptor = os.open(place, os.O_WRONLY | os.O_NOFOLLOW)
        try:
            written = 0
            while written < len(content):
                written += os.pwrite(descriptor, memoryview(content)[written:], start + written)
        finally:
            os.close(descriptor)
        arrived(len(content))

    def _part(self, file: Remote, start: int, end: int) -> bytes:
        at = self._at(file.path)
        with said(at):
            options = {"range": (start, end), **({"if_match": file.mark} if file.mark else {})}
            answer = obstore.get(self.store, at.key, options=options)  # type: ignore[arg-type]
            content = bytes(answer.bytes())
        # Not every store looks at If-Match when it gives a range.
        changed = answer.meta["size"] != file.size or (file.mark is not None and answer.meta["e_tag"] != file.mark)
        if changed or len(content) != end - start:
            raise InvalidInput(f"{at} changed while it was fetched: register again when its writer is done")
        return content

    def _at(self, path: str) -> Address:
        return Address(self.address.scheme, self.address.bucket, f"{self.address.key}/{path}".strip("/"))
