"""Opens buckets, in the one way Teal has: s3://, gs:// and az:// through obstore, credentials from where each
cloud's own tools look for them. Turns what obstore raises into sentences; what is read or written is for callers.
"""

import configparser
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from obstore.exceptions import BaseError, InvalidPathError, PreconditionError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from contracts.errors import InvalidInput, NotFound, TealError, Unavailable
from contracts.fetch import BUCKETS

_BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile in ~/.aws/credentials, or AWS_SKIP_SIGNATURE=true "
    "for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, or GOOGLE_SKIP_SIGNATURE=true for "
    "a public bucket",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or a service "
    "principal",
}
# One request; big objects are asked for in parts. Few retries: a person waits, and may simply try again.
_CLIENT = {"timeout": "120s", "connect_timeout": "5s"}
_RETRY = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}


@dataclass(frozen=True)
class Address:
    """A place in a bucket. `key` has no slash at either end and may be empty."""

    scheme: str
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"


def parse(text: str) -> Address:
    """Raise InvalidInput saying what an address looks like. A key is taken as it is: nothing in it is decoded."""
    scheme, _, rest = text.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme not in BUCKETS or not _BUCKET_NAME.fullmatch(bucket) or ".." in bucket:
        raise InvalidInput(
            f"source {_without_user(text)!r}: expected scheme://bucket/key with one of {', '.join(BUCKETS)} as "
            "scheme and letters, digits, '.', '_' or '-' in the bucket's name; no user, password or port"
        )
    key = key.strip("/")
    odd = [part for part in key.split("/") if part in ("", ".", "..") or not part.isprintable()]
    if key and odd:
        raise InvalidInput(f"source {text[:200]!r}: the key has a part {odd[0]!r}, which no model is kept under")
    return Address(scheme, bucket, key)


def _without_user(text: str) -> str:
    """A password typed into an address must not travel on in a message."""
    return re.sub(r"//[^/]*@", "//…@", text)[:200]


def open_store(
    address: Address, environment: Mapping[str, str] = os.environ, endpoint: str | None = None
) -> ObjectStore:
    """The bucket of `address`. Nothing is asked of it yet. `endpoint` goes before the one of the environment.

    obstore reads the clouds' own variables itself. Raises Unavailable when they are not enough to begin with."""
    at = endpoint or next((environment[n] for n in _ENDPOINTS[address.scheme] if environment.get(n)), None)
    profile = _profile(environment) if address.scheme == "s3" else {}
    at = at or profile.pop("endpoint", None)
    # Plain HTTP only to where somebody named it: MinIO on this machine, not a cloud by mistake.
    client: Any = {**_CLIENT, **({"allow_http": True} if at is not None and at.startswith("http://") else {})}
    retry: Any = _RETRY
    with said(address):
        if address.scheme == "s3":
            config: Any = {**profile, **({"endpoint": at} if at else {})}
            return S3Store(address.bucket, config=config, client_options=client, retry_config=retry)
        if address.scheme == "gs":
            return GCSStore(address.bucket, client_options=client, retry_config=retry)
        config = {"endpoint": at} if at else {}
        return AzureStore(address.bucket, config=config, client_options=client, retry_config=retry)


def _profile(environment: Mapping[str, str]) -> dict[str, str]:
    """Keys of the AWS profile, as `aws configure` writes them; obstore itself knows only the environment. What the
    environment says goes first; roles and single sign-on need `aws configure export-credentials --format env`."""
    name = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    home = Path(environment.get("HOME", "~")).expanduser()
    keys = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws/credentials")
    config = Path(environment.get("AWS_CONFIG_FILE") or home / ".aws/config")
    read = configparser.RawConfigParser()
    try:
        read.read([config, keys])
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        raise Unavailable(f"cannot read {config} and {keys} ({type(error).__name__}): repair them") from error
    found: dict[str, str] = {}
    for section in (f"profile {name}", name):
        found |= dict(read[section]) if read.has_section(section) else {}
    taken: dict[str, str] = {}
    if not environment.get("AWS_ACCESS_KEY_ID"):
        for theirs in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"):
            if theirs in found:
                taken[theirs] = found[theirs]
    if not (environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")) and "region" in found:
        taken["region"] = found["region"]
    if "endpoint_url" in found:
        taken["endpoint"] = found["endpoint_url"]
    return taken


@contextmanager
def said(address: Address) -> Iterator[None]:
    """What obstore raises inside becomes an error of ours about `address`."""
    try:
        yield
    except (BaseError, FileNotFoundError, PermissionError) as error:
        raise as_teal_error(error, address) from error


def as_teal_error(error: Exception, address: Address) -> TealError:
    """obstore tells most things apart only in its text, which also holds URLs, so sentences are our own."""
    text = str(error)
    if isinstance(error, PreconditionError):
        return InvalidInput(f"{address} changed while it was fetched: try again when its writer is done")
    if isinstance(error, InvalidPathError):
        return InvalidInput(
            f"{address}: a key below has an empty part, '.' or '..' in it: no such name is written here"
        )
    for sign, words in _SIGNS.items():
        if sign in text:
            kind = NotFound if sign in _MISSING else Unavailable
            return kind(f"{address}: {words.format(bucket=address.bucket, credentials=_CREDENTIALS[address.scheme])}")
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{address}: there is no such object")
    return Unavailable(f"{address}: {_brief(text)}")


_MISSING = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_NO_CREDENTIALS = "no credentials found: set {credentials}"
_SIGNS = {
    "NoSuchBucket": "there is no bucket {bucket}",
    "ContainerNotFound": "there is no container {bucket}",
    "The specified bucket does not exist": "there is no bucket {bucket}",
    "InvalidAccessKeyId": "the credentials were refused, the access key is unknown there: set {credentials}",
    "SignatureDoesNotMatch": "the credentials were refused, the secret does not fit the access key: set {credentials}",
    "ExpiredToken": "the credentials are expired: get new ones",
    "InvalidToken": "the credentials were refused, the session token is not valid: get new ones",
    "169.254.": _NO_CREDENTIALS,  # the last place obstore looks in: the metadata service of a cloud's machine
    "metadata.google.internal": _NO_CREDENTIALS,
    "Account must be specified": _NO_CREDENTIALS,
    "PermanentRedirect": "the bucket lies in another region: set AWS_REGION to its own",
    "AuthorizationHeaderMalformed": "the bucket lies in another region: set AWS_REGION to its own",
    "incorrectly configured region": "the bucket lies in another region: set AWS_REGION to its own",
    "403 Forbidden": "access denied: the credentials may not list the bucket or read what is in it",
    "AccessDenied": "access denied: the credentials may not list the bucket or read what is in it",
    "401 Unauthorized": "the credentials were refused: set {credentials}",
    "dns error": "its host is unknown, name resolution failed: check the endpoint and the network",
    "Connection refused": "connection refused, nothing listens there: check the endpoint",
    "ConnectionRefused": "connection refused, nothing listens there: check the endpoint",
    "InvalidCertificate": "the certificate of the endpoint is not trusted: check the endpoint, or name its authority "
    "in SSL_CERT_FILE",
    "URL scheme is not allowed": "the endpoint speaks plain HTTP, which only works where it is named with http://",
    "timed out": "no answer in time: check the endpoint and the network",
    "TimedOut": "no answer in time: check the endpoint and the network",
}


def _brief(text: str) -> str:
    """The first line, without the queries of its URLs: these may hold signatures."""
    return re.sub(r"\?\S*", "", (text.splitlines() or [""])[0])[:300]
