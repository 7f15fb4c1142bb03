"""The messages of the gRPC services Teal speaks, as compiled descriptors of contracts/protos/*.proto, which hold the
protocols' field numbers. Making Python classes of them is left to those who need some.

The messages carry the full names that TensorFlow's and Triton's own have, because a client sees those names. Two
definitions of one name do not fit into one pool: load these into a DescriptorPool of your own, never the default one.
"""

from functools import cache
from importlib.resources import files

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
INFERENCE_SERVICE = "inference.GRPCInferenceService"
HEALTH_SERVICE = "grpc.health.v1.Health"
SERVICES = (PREDICTION_SERVICE, MODEL_SERVICE, INFERENCE_SERVICE, HEALTH_SERVICE)

DESCRIPTORS = "teal.binpb"  # made by `make protos`


@cache
def descriptor_set() -> bytes:
    """A serialized google.protobuf.FileDescriptorSet: every file after those it imports, Google's own included."""
    return files("contracts").joinpath("protos", DESCRIPTORS).read_bytes()
