"""The compiled descriptors are those of the .proto files, and can be used beside TensorFlow's own."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from contracts.protos import SERVICES, descriptor_set

PROTOS = Path(__file__).parents[2] / "contracts" / "protos"


def pool() -> DescriptorPool:
    made = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptor_set()).file:
        made.Add(file)
    return made


def test_the_compiled_descriptors_are_those_of_the_files_here(tmp_path: Path) -> None:
    again = tmp_path / "again.binpb"
    files = sorted(path.name for path in PROTOS.glob("*.proto"))
    arguments = [f"--proto_path={PROTOS}", "--include_imports", f"--descriptor_set_out={again}", *files]
    # In a process of its own: the compiler and TensorFlow cannot be in one.
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True, timeout=60)
    assert again.read_bytes() == descriptor_set(), "contracts/protos was edited: run make protos"


def test_every_service_that_is_named_is_described() -> None:
    described = pool()
    assert [described.FindServiceByName(name).full_name for name in SERVICES] == list(SERVICES)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("tensorflow.serving.ModelSpec", {"name": 1, "version": 2, "signature_name": 3, "version_label": 4}),
        ("tensorflow.serving.PredictRequest", {"model_spec": 1, "inputs": 2, "output_filter": 3}),
        ("tensorflow.serving.PredictResponse", {"outputs": 1, "model_spec": 2}),
        (
            "inference.ModelInferRequest",
            {
                "model_name": 1, "model_version": 2, "id": 3, "parameters": 4,
                "inputs": 5, "outputs": 6, "raw_input_contents": 7,
            },
        ),
        (
            "inference.ModelInferResponse",
            {
                "model_name": 1, "model_version": 2, "id": 3, "parameters": 4,
                "outputs": 5, "raw_output_contents": 6,
            },
        ),
    ],
)  # fmt: skip
def test_field_numbers_are_the_protocols(name: str, fields: dict[str, int]) -> None:
    described = pool().FindMessageTypeByName(name)
    assert {f.name: f.number for f in described.fields} == fields


def test_a_request_is_written_as_tensorflow_serving_writes_it() -> None:
    request = GetMessageClass(pool().FindMessageTypeByName("tensorflow.serving.PredictRequest"))()
    request.model_spec.name = "digits"
    request.model_spec.version.value = 3
    assert request.SerializeToString() == b"\x0a\x0c\x0a\x06digits\x12\x02\x08\x03"
