"""A store that speaks enough of S3 to be asked for a model, and does what no store should, when told to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class Store:
    """`objects` by key. `sizes` are told when they are listed instead of the true ones. `refusal` is the status and the
    error code every request gets, with `elsewhere` as its Location; `second_page` the one that only the second page of
    a listing gets. `stuck` answers nothing until the server ends. `rewritten` objects have another etag when they are
    read than when they were listed. `asked` is what came, `authorized` how much of it came with credentials."""

    objects: dict[str, bytes] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    refusal: tuple[int, str] | None = None
    second_page: tuple[int, str] | None = None
    rewritten: set[str] = field(default_factory=set)
    elsewhere: str | None = None
    stuck: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    authorized: int = 0
    endpoint: str = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        self.store.asked.append(f"{self.command} {key or 'list'}")
        self.store.authorized += "Authorization" in self.headers
        if self.store.stuck:
            self.store.ended.wait()
            self.close_connection = True
        elif self.store.refusal is not None:
            self._refuse(*self.store.refusal)
        elif "list-type" in query:
            self._list(query)
        elif key in self.store.objects:
            self._object(key)
        else:
            self._refuse(404, "NoSuchKey")

    def _list(self, query: dict[str, list[str]]) -> None:
        if self.store.second_page is not None and "continuation-token" in query:
            self._refuse(*self.store.second_page)
            return
        prefix = query.get("prefix", [""])[0]
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{self.store.sizes.get(key, len(body))}</Size>"
            f"<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;1&quot;</ETag></Contents>"
            for key, body in self.store.objects.items()
            if key.startswith(prefix)
        )
        more = self.store.second_page is not None
        token = "<NextContinuationToken>two</NextContinuationToken>" if more else ""
        truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}"
        self._send(200, f"<ListBucketResult>{truncated}{entries}</ListBucketResult>".encode())

    def _object(self, key: str) -> None:
        etag = '"2"' if key in self.store.rewritten else '"1"'
        body = self.store.objects[key]
        if self.headers.get("If-Match") not in (None, etag):
            self._refuse(412, "PreconditionFailed")
            return
        headers = {"ETag": etag, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        asked = self.headers.get("Range")
        if asked is None:
            self._send(200, body, headers)
            return
        first, last = (int(n) for n in asked.removeprefix("bytes=").split("-"))
        headers["Content-Range"] = f"bytes {first}-{min(last, len(body) - 1)}/{len(body)}"
        self._send(206, body[first : last + 1], headers)

    def _refuse(self, status: int, code: str) -> None:
        location = {} if self.store.elsewhere is None else {"Location": self.store.elsewhere}
        self._send(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode(), location)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return


@contextmanager
def running(**facts: object) -> Iterator[Store]:
    store = Store(**facts)  # type: ignore[arg-type]
    handler = type("Handler", (_Handler,), {"store": store})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        store.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield store
        finally:
            store.ended.set()
            server.shutdown()
            thread.join()
