"""Given a model in a bucket of a real S3 endpoint, its own files come here and nothing else of the bucket does."""

import os
from pathlib import Path

import pytest

from contracts.errors import InvalidInput, NotFound, Unavailable, Unsupported
from serving.fetch.bucket import PART
from tests.fakes.s3 import S3
from tests.serving.fetch.conftest import Bring, files


def test_of_numbered_versions_the_highest_comes_and_the_answer_says_which(
    bucket: S3, bring: Bring, output: Path
) -> None:
    for name in ("9/saved_model.pb", "10/saved_model.pb", "10/variables/variables.index", "10/train.log", "notes/x"):
        bucket.put(f"base/{name}", name.encode())
    found = bring("s3://models/base/")
    assert found.source == "s3://models/base/10"
    assert files(found.path) == {"saved_model.pb", "variables/variables.index"}
    assert files(output) == {"10/saved_model.pb", "10/variables/variables.index"}


@pytest.mark.parametrize("below", ["", "/", "/saved_model.pb"])
def test_a_savedmodel_is_named_with_or_without_its_file(below: str, bucket: S3, bring: Bring) -> None:
    bucket.put("named/saved_model.pb", b"graph")
    bucket.put("named/assets/the words.txt", b"the")
    bucket.put("named2/saved_model.pb", b"a neighbour with the same beginning")
    found = bring(f"s3://models/named{below}")
    assert files(found.path) == {"saved_model.pb", "assets/the words.txt"}
    assert found.source.startswith("s3://models/named")


@pytest.mark.parametrize("name", ["model.keras", "model.tflite"])
def test_a_single_object_is_a_source(name: str, bucket: S3, bring: Bring) -> None:
    bucket.put(f"one/{name}", b"content")
    found = bring(f"s3://models/one/{name}")
    assert (found.path.name, found.path.read_bytes()) == (name, b"content")


def test_an_object_without_a_known_ending_is_fetched_and_judged_by_prepare(bucket: S3, bring: Bring) -> None:
    bucket.put("one/digits", b"TFL3")
    assert bring("s3://models/one/digits").path.read_bytes() == b"TFL3"


def test_an_object_of_many_parts_arrives_byte_for_byte(bucket: S3, bring: Bring) -> None:
    content = os.urandom(2 * PART + 12_345)
    bucket.put("big/model.tflite", content)
    assert bring("s3://models/big/model.tflite").path.read_bytes() == content


def test_folders_that_a_console_drew_are_no_files(bucket: S3, bring: Bring) -> None:
    for marker in ("drawn/1/", "drawn/1/variables/"):
        bucket.put(marker, b"")
    bucket.put("drawn/1/saved_model.pb", b"graph")
    bucket.put("drawn/1/variables/variables.index", b"index")
    assert files(bring("s3://models/drawn").path) == {"saved_model.pb", "variables/variables.index"}


@pytest.mark.parametrize(
    ("key", "kind", "words"),
    [
        ("s3://models/nothing/here", NotFound, "no such object, and none below"),
        ("s3://nosuchbucket/x", NotFound, "there is no bucket nosuchbucket"),
        (
            "s3://models/plain",
            InvalidInput,
            r"expected saved_model\.pb, MLmodel or numbered version .* got readme\.txt",
        ),
        ("s3://models/hinted", InvalidInput, r"name the file: s3://models/hinted/model\.keras"),
        ("s3://models/deep", InvalidInput, "a model further down: s3://models/deep/er"),
        (
            "s3://models/half",
            InvalidInput,
            r"highest version, 3, has no saved_model\.pb.*earlier one: s3://models/half/2",
        ),
        ("s3://models/old/model.h5", Unsupported, "HDF5 models are not read"),
    ],
)
def test_what_is_no_model_is_named_with_the_next_step(
    key: str, kind: type[Exception], words: str, bucket: S3, bring: Bring
) -> None:
    for name in (
        "plain/readme.txt",
        "hinted/model.keras",
        "deep/er/saved_model.pb",
        "half/2/saved_model.pb",
        "half/3/x",
    ):
        bucket.put(name, b"x")
    with pytest.raises(kind, match=words):
        bring(key)


def test_nothing_listens_and_a_host_nobody_knows_are_told_apart(
    bucket: S3, bring: Bring, clean: pytest.MonkeyPatch
) -> None:
    clean.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="connection refused"):
        bring("s3://models/x")
    clean.setenv("AWS_ENDPOINT_URL", "http://bucket.invalid")
    with pytest.raises(Unavailable, match="name resolution failed"):
        bring("s3://models/x")


def test_an_mlflow_directory_in_a_bucket_comes_without_its_pickles(bucket: S3, bring: Bring) -> None:
    bucket.put("ml/MLmodel", b"flavors: {tensorflow: {data: data, model_type: keras}, python_function: {}}")
    for name in ("data/model.keras", "data/custom_objects.cloudpickle", "python_model.pkl", "conda.yaml"):
        bucket.put(f"ml/{name}", b"x")
    assert files(bring("s3://models/ml").path) == {"MLmodel", "data/model.keras"}
