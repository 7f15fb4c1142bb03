"""TensorFlow Serving's own Python client, unmodified. Prints what it was answered as JSON.

tfs.py HOST:PORT ROWS_JSON      models digits (1 live, 2 with label next) and examples
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

DEADLINE = 30


def main() -> None:
    rows = np.array(json.loads(sys.argv[2]), np.float32)
    with grpc.insecure_channel(sys.argv[1]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        answers = {
            "content": predict(stub, rows, version=1),
            "typed": predict(stub, rows, typed=True, version=1),
            "version": predict(stub, rows, version=2),
            "label": predict(stub, rows, label="next"),
            "filtered": predict(stub, rows, version=1, wanted=True),
            "metadata": metadata(stub),
            "status": status(models),
            "errors": errors(stub, models, rows),
            **inference(stub),
        }
    print(json.dumps(answers))


def predict_request(rows: Any, **spec: Any) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = spec.get("model", "digits")
    request.model_spec.signature_name = spec.get("signature", "serving_default")
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    tensor = tf.make_tensor_proto(rows)
    if spec.get("typed"):
        tensor.ClearField("tensor_content")
        tensor.float_val.extend(rows.reshape(-1).tolist())
    request.inputs["image"].CopyFrom(tensor)
    return request


def predict(stub: Any, rows: Any, *, wanted: bool = False, **spec: Any) -> Any:
    request = predict_request(rows, **spec)
    if wanted:
        request.output_filter.extend(stub.Predict(request, DEADLINE).outputs)
    response = stub.Predict(request, DEADLINE)
    [tensor] = response.outputs.values()
    return {"version": response.model_spec.version.value, "outputs": tf.make_ndarray(tensor).tolist()}


def metadata(stub: Any) -> Any:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "digits"
    request.model_spec.version.value = 1
    response = stub.GetModelMetadata(request, DEADLINE)
    described = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(described)
    info = described.signature_def["serving_default"].inputs["image"]
    return {
        "version": response.model_spec.version.value,
        "dtype": tf.as_dtype(info.dtype).name,
        "shape": [dim.size for dim in info.tensor_shape.dim],
    }


def status(models: Any) -> Any:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "digits"
    response = models.GetModelStatus(request, DEADLINE)
    return {str(each.version): each.State.Name(each.state) for each in response.model_version_status}


def inference(stub: Any) -> dict[str, Any]:
    examples = []
    for x, color in (([1.0, 0.0], None), ([-1.0, 2.0], b"blue")):
        features = {"x": tf.train.Feature(float_list=tf.train.FloatList(value=x))}
        if color is not None:
            features["color"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[color]))
        examples.append(tf.train.Example(features=tf.train.Features(feature=features)))
    classify = classification_pb2.ClassificationRequest()
    classify.model_spec.name = "examples"
    classify.input.example_list.examples.extend(examples)
    regress = regression_pb2.RegressionRequest()
    regress.model_spec.name, regress.model_spec.signature_name = "examples", "regress"
    given = regress.input.example_list_with_context
    given.examples.extend(examples)
    given.context.features.feature["color"].bytes_list.value.append(b"green")
    both = inference_pb2.MultiInferenceRequest()
    both.input.example_list.examples.extend(examples)
    for signature, method in (("serving_default", "classify"), ("regress", "regress")):
        task = both.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "examples", signature
    first, second = stub.MultiInference(both, DEADLINE).results
    return {
        "classify": labels(stub.Classify(classify, DEADLINE).result),
        "regress": [each.value for each in stub.Regress(regress, DEADLINE).result.regressions],
        "multi": [
            labels(first.classification_result),
            [each.value for each in second.regression_result.regressions],
        ],
    }


def labels(result: Any) -> list[str]:
    """The label with the best score, example by example."""
    return [max(row.classes, key=lambda each: each.score).label for row in result.classifications]


def errors(stub: Any, models: Any, rows: Any) -> dict[str, str]:
    unknown = get_model_status_pb2.GetModelStatusRequest()
    unknown.model_spec.name = "nobody"
    unasked = get_model_metadata_pb2.GetModelMetadataRequest()
    unasked.model_spec.name = "digits"
    missing = predict_request(rows)
    del missing.inputs["image"]
    return {
        "model": code(stub.Predict, predict_request(rows, model="nobody")),
        "version": code(stub.Predict, predict_request(rows, version=99)),
        "label": code(stub.Predict, predict_request(rows, label="nope")),
        "signature": code(stub.Predict, predict_request(rows, signature="nope")),
        "shape": code(stub.Predict, predict_request(rows[:, :3])),
        "dtype": code(stub.Predict, wrong_dtype(rows)),
        "missing": code(stub.Predict, missing),
        "no field": code(stub.GetModelMetadata, unasked),
        "status": code(models.GetModelStatus, unknown),
    }


def wrong_dtype(rows: Any) -> Any:
    request = predict_request(rows)
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(rows.astype(np.float64)))
    return request


def code(method: Callable[..., Any], request: Any) -> str:
    try:
        method(request, DEADLINE)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


if __name__ == "__main__":
    main()
