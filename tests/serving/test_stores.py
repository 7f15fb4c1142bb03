"""Addresses of buckets, and credentials from where people keep them."""

from pathlib import Path

import pytest

from contracts.errors import InvalidInput, Unavailable
from serving.stores import Address, open_store, parse


def test_an_address_is_taken_as_it_is() -> None:
    assert parse("s3://models/a b/c%20d/?x#y/") == Address("s3", "models", "a b/c%20d/?x#y")
    assert str(parse("gs://models")) == "gs://models/"


@pytest.mark.parametrize(
    "text",
    [
        *("s3://", "s3:///key", "s3://bucket:80/x", "s3://a..b/x", "s3://bu cket/x", "file:///etc", "gopher://x/y"),
        *("s3://models/../x", "s3://models/a//b", "s3://models/a/./b", "s3://models/a\nb", "http://169.254.169.254/x"),
    ],
)
def test_odd_addresses_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse(text)


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse("s3://me:sesame@models/x")
    assert "sesame" not in refused.value.message


def test_the_profile_that_aws_configure_wrote_is_used_and_the_environment_goes_first(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text("[team]\naws_access_key_id = k\naws_secret_access_key = s%1\n")
    (tmp_path / ".aws/config").write_text("[profile team]\nregion = eu-west-1\nendpoint_url = http://minio:9000\n")
    known = {"HOME": str(tmp_path), "AWS_PROFILE": "team"}
    store = open_store(parse("s3://models/x"), known)
    config = {str(name).lower(): value for name, value in (store.config or {}).items()}  # type: ignore[union-attr]
    assert (config["access_key_id"], config["secret_access_key"], config["region"]) == ("k", "s%1", "eu-west-1")
    assert config["endpoint"] == "http://minio:9000"
    store = open_store(
        parse("s3://models/x"), known | {"AWS_REGION": "us-west-2", "AWS_ENDPOINT_URL": "https://s3.local"}
    )
    assert (store.config or {})["endpoint"] == "https://s3.local"  # type: ignore[union-attr]


def test_a_profile_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("no section")
    with pytest.raises(Unavailable, match=r"cannot read .*config"):
        open_store(parse("s3://models/x"), {"HOME": str(tmp_path), "AWS_CONFIG_FILE": str(tmp_path / "config")})


def test_an_azure_container_without_an_account_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(Unavailable, match="no credentials found: set AZURE_STORAGE_ACCOUNT_NAME"):
        open_store(parse("az://models/x"), {})
