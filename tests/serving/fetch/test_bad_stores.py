"""What a store does wrong, or what somebody put into it, is a sentence, and nothing is written outside or kept."""

from pathlib import Path

import pytest

from contracts.errors import InvalidInput, NotFound, TealError, Unavailable
from serving.fetch import bucket as bucket_module
from serving.fetch import files as files_module
from tests.fakes import bucket_server
from tests.fakes.bucket_server import Store
from tests.fakes.s3 import SECRET
from tests.serving.fetch.conftest import Bring, files


@pytest.fixture
def at(clean: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    clean.setenv("AWS_ACCESS_KEY_ID", "AKIATEAL")
    clean.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return clean


def asked(bring: Bring, store: Store, at: pytest.MonkeyPatch) -> TealError:
    at.setenv("AWS_ENDPOINT_URL", store.endpoint)
    with pytest.raises(TealError) as caught:
        bring("s3://models/digits")
    assert SECRET not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [
        ((403, "AccessDenied"), Unavailable, "access denied"),
        ((403, "InvalidAccessKeyId"), Unavailable, "the access key is unknown"),
        ((403, "SignatureDoesNotMatch"), Unavailable, "the secret does not fit"),
        ((400, "ExpiredToken"), Unavailable, "credentials are expired"),
        ((401, "Unauthorized"), Unavailable, "credentials were refused"),
        ((301, "PermanentRedirect"), Unavailable, "another region: set AWS_REGION"),
        ((404, "NoSuchBucket"), NotFound, "no bucket models"),
    ],
)
def test_every_refusal_has_its_own_sentence(
    refusal: tuple[int, str], kind: type[TealError], words: str, bring: Bring, at: pytest.MonkeyPatch
) -> None:
    with bucket_server.running(refusal=refusal) as store:
        error = asked(bring, store, at)
    assert isinstance(error, kind)
    assert words in error.message


def test_a_store_that_sends_us_to_another_host_does_not_send_the_credentials_along(
    bring: Bring, at: pytest.MonkeyPatch
) -> None:
    with bucket_server.running() as other, bucket_server.running(refusal=(307, "TemporaryRedirect")) as store:
        store.elsewhere = f"{other.endpoint}/latest/meta-data/"
        asked(bring, store, at)
        assert (store.authorized, other.authorized) == (
            1,
            0,
        )  # obstore follows redirects, and that cannot be turned off


def test_an_object_that_changes_between_listing_and_reading_is_not_mixed_in(
    bring: Bring, at: pytest.MonkeyPatch
) -> None:
    objects = {"digits/saved_model.pb": b"graph", "digits/variables/variables.index": b"index"}
    with bucket_server.running(objects=objects, rewritten={"digits/variables/variables.index"}) as store:
        error = asked(bring, store, at)
    assert "variables.index changed while it was fetched" in error.message


def test_an_object_that_is_shorter_than_it_was_listed_is_not_taken(bring: Bring, at: pytest.MonkeyPatch) -> None:
    objects = {"digits/saved_model.pb": b"graph"}
    with bucket_server.running(objects=objects, sizes={"digits/saved_model.pb": 9}) as store:
        assert "changed while it was fetched" in asked(bring, store, at).message


def test_a_listing_that_breaks_in_the_middle_is_not_taken_for_the_whole(
    bring: Bring, at: pytest.MonkeyPatch, output: Path
) -> None:
    objects = {"digits/saved_model.pb": b"graph"}
    with bucket_server.running(objects=objects, second_page=(403, "AccessDenied")) as store:
        assert "access denied" in asked(bring, store, at).message
    assert files(output) == set()


@pytest.mark.parametrize("key", ["digits/../../etc/cron.d/x", "digits//absolute", "digits/variables/./x"])
def test_a_key_that_would_leave_the_directory_is_refused(
    key: str, bring: Bring, at: pytest.MonkeyPatch, output: Path
) -> None:
    with bucket_server.running(objects={"digits/saved_model.pb": b"graph", key: b"x"}) as store:
        assert "no such name is written here" in asked(bring, store, at).message
    assert files(output.parent) == set()


@pytest.mark.parametrize("name", ["back\\slash", "line\nbreak", "x" * 300, "assets/" + "d/" * 600 + "x"])
def test_a_key_that_no_file_should_have_is_refused(
    name: str, bring: Bring, at: pytest.MonkeyPatch, output: Path
) -> None:
    with bucket_server.running(objects={"digits/saved_model.pb": b"g", f"digits/assets/{name}": b"x"}) as store:
        assert isinstance(asked(bring, store, at), InvalidInput)
    assert files(output) == set()


def test_more_files_or_bytes_than_a_model_has_are_refused_before_any_is_read(
    bring: Bring, at: pytest.MonkeyPatch, output: Path
) -> None:
    at.setattr(files_module, "MAX_FILES", 3)
    objects = {"digits/saved_model.pb": b"graph", **{f"digits/assets/{n}": b"x" for n in range(3)}}
    with bucket_server.running(objects=objects) as store:
        assert "at most 3 files, got 4" in asked(bring, store, at).message
        assert not [line for line in store.asked if line.startswith("GET digits")]
    with bucket_server.running(
        objects=dict([*objects.items()][:2]), sizes={"digits/saved_model.pb": 65 << 30}
    ) as store:
        assert "bytes, got" in asked(bring, store, at).message
    with bucket_server.running(
        objects=dict([*objects.items()][:2]), sizes={"digits/saved_model.pb": 63 << 30}
    ) as store:
        at.setattr(files_module, "MAX_BYTES", 1 << 62)
        store.sizes["digits/saved_model.pb"] = 1 << 60
        assert "MiB left" in asked(bring, store, at).message
    assert files(output) == set()


def test_a_place_with_too_many_objects_is_not_listed_to_its_end(bring: Bring, at: pytest.MonkeyPatch) -> None:
    at.setattr(bucket_module, "MAX_LISTED", 5)
    with bucket_server.running(objects={f"digits/{n}/saved_model.pb": b"x" for n in range(6)}) as store:
        assert "name the model's own place" in asked(bring, store, at).message


def test_a_file_below_a_file_is_refused(bring: Bring, at: pytest.MonkeyPatch) -> None:
    objects = {"digits/saved_model.pb": b"g", "digits/assets/a": b"file", "digits/assets/a/b": b"below it"}
    with bucket_server.running(objects=objects) as store:
        assert "lies below a file of that name" in asked(bring, store, at).message
