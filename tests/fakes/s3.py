"""A real S3 endpoint on a free port of this machine (moto's server), and one bucket in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import obstore
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

KEY, SECRET = "AKIATEAL", "planted-s3-secret"


@dataclass(frozen=True)
class S3:
    """`environment` is what reaches it, for this process or a child."""

    endpoint: str
    bucket: str

    @property
    def environment(self) -> dict[str, str]:
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
        return {"AWS_ENDPOINT_URL": self.endpoint, **keys}

    def put(self, key: str, content: bytes) -> None:
        obstore.put(self._store(), key, content)

    def put_tree(self, key: str, root: Path) -> None:
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            self.put(f"{key}/{path.relative_to(root).as_posix()}", path.read_bytes())

    def _store(self) -> S3Store:
        keys = {"access_key_id": KEY, "secret_access_key": SECRET, "region": "us-east-1"}
        return S3Store(self.bucket, endpoint=self.endpoint, client_options={"allow_http": True}, **keys)


@contextmanager
def running(bucket: str = "models") -> Iterator[S3]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        found = S3(f"http://{host}:{port}", bucket)
        httpx.put(f"{found.endpoint}/{bucket}").raise_for_status()
        yield found
    finally:
        server.stop()
