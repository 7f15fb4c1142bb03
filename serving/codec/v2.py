"""The Open Inference Protocol's bodies, from here: v2_read.py reads them, v2_write.py writes them."""

from serving.codec.v2_read import V2Codec
from serving.codec.v2_words import DATATYPES, JSON_LENGTH, Infer, default_signature
from serving.codec.v2_write import metadata, write, write_binary

__all__ = [
    "DATATYPES",
    "JSON_LENGTH",
    "Infer",
    "V2Codec",
    "default_signature",
    "metadata",
    "write",
    "write_binary",
]
