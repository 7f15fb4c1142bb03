"""Stands before the API: only callers of this machine who mean it. Keeps out what a web page in an operator's browser
could send (DNS rebinding, cross-site requests) and bodies larger than any command.
"""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.errors import InvalidInput, TooLarge, UnsupportedMedia
from deploy.http.errors import answer

BODY_MAX = 64 * 1024  # bytes; a command is a handful of fields
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """ASGI middleware. `hosts` are host names that are accepted besides loopback ones."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await answer(400, refusal, InvalidInput.code)(scope, receive, send)
            return
        body = await _bounded_body(scope, receive)
        if body is None:
            said = f"the body is larger than {BODY_MAX} bytes; no command is"
            await answer(413, said, TooLarge.code)(scope, receive, send)
            return
        if any(message.get("body") for message in body) and not _says_json(scope):
            said = "the body's content-type does not say that it is JSON: send content-type: application/json"
            await answer(415, said, UnsupportedMedia.code)(scope, receive, send)
            return
        await self._app(scope, _replayed(body, receive), send)

    def _refusal(self, scope: Scope) -> str | None:
        """Why this request is not answered. Judged on the raw headers, before any routing."""
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            named = ", ".join(hosts)[:100] or "none"
            return f"host {named!r} is not served here: expected localhost or 127.0.0.1 (a name must be configured)"
        if scope["method"] in _SAFE:
            return None
        for name, value in scope["headers"]:
            text = value.decode("latin-1")
            if name == b"origin" and not self._is_ours(urlsplit(text).netloc):
                return f"commands from pages of {text[:100]!r} are not accepted"
            if name == b"sec-fetch-site" and text in ("cross-site", "same-site"):
                return "commands from pages of another site are not accepted"
        return None

    def _is_ours(self, netloc: str) -> bool:
        try:
            host = urlsplit(f"//{netloc}").hostname
        except ValueError:
            return False
        if host is None or netloc != netloc.strip("/?#@ ") or any(c in netloc for c in "/?#@ \\"):
            return False
        if host == "localhost" or host in self._hosts:
            return True
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return False


def _says_json(scope: Scope) -> bool:
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    return kind.split(b";")[0].strip().lower() == b"application/json"


async def _bounded_body(scope: Scope, receive: Receive) -> list[Message] | None:
    """The request's messages, or None when its body is too large."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if declared.isdigit() and int(declared) > BODY_MAX:
        return None
    messages: list[Message] = []
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if size > BODY_MAX:
            return None
        if message["type"] != "http.request" or not message.get("more_body", False):
            return messages


def _replayed(messages: list[Message], receive: Receive) -> Receive:
    waiting = iter(messages)

    async def replay() -> Message:
        message = next(waiting, None)
        return message if message is not None else await receive()

    return replay
