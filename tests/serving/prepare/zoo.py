"""Small models of every kind prepare has to cope with, written to a directory. Imports TensorFlow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf


def _random(*shape: int) -> Any:
    return tf.Variable(np.random.default_rng(1).standard_normal(shape).astype(np.float32))


def keras_dense() -> Any:
    tf.keras.utils.set_random_seed(1)
    layers = [tf.keras.Input((64,), name="image"), tf.keras.layers.Dense(10, activation="softmax")]
    return tf.keras.Sequential(layers)


def dense(path: Path) -> None:
    """A Keras 3 export: signatures serve and serving_default, both the same function."""
    keras_dense().export(str(path), verbose=False)


def conv(path: Path) -> None:
    tf.keras.utils.set_random_seed(1)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            tf.keras.Input((64,), name="image"),
            layers.Reshape((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.export(str(path), verbose=False)


class _Several(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = _random(4, 3)

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def score(self, x: Any) -> Any:
        return {"score": x @ self.weights}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def label(self, x: Any) -> Any:
        return {"label": tf.argmax(x @ self.weights, axis=-1), "sure": tf.reduce_max(x, axis=-1) > 0.5}


def several_signatures(path: Path) -> None:
    model = _Several()
    tf.saved_model.save(model, str(path), signatures={"serving_default": model.score, "label": model.label})


def _save(path: Path, function: Callable[..., Any], *specs: Any, **attributes: Any) -> None:
    model = tf.Module()
    for name, value in attributes.items():
        setattr(model, name, value)
    model.call = tf.function(function, input_signature=list(specs))
    tf.saved_model.save(model, str(path), signatures={"serving_default": model.call})


def two_inputs_two_outputs(path: Path) -> None:
    weights = _random(3, 2)

    def call(left: Any, count: Any) -> Any:
        return {"scaled": left @ weights * tf.cast(count, tf.float32)[:, None], "twice": count * 2}

    left, count = tf.TensorSpec([None, 3], tf.float32, "left"), tf.TensorSpec([None], tf.int32, "count")
    _save(path, call, left, count, weights=weights)


def text(path: Path) -> None:
    """Strings in, strings and numbers out; TensorFlow Lite has no built-in operation for it."""

    def call(words: Any) -> Any:
        return {"upper": tf.strings.upper(words), "length": tf.strings.length(words)}

    _save(path, call, tf.TensorSpec([None], tf.string, "words"))


def vocabulary(path: Path, scratch: Path) -> None:
    """A look-up table initialised from an asset file."""
    file = scratch / "words.txt"
    file.write_text("the\nquick\nfox\n")
    initializer = tf.lookup.TextFileInitializer(
        str(file), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    table = tf.lookup.StaticHashTable(initializer, -1)
    _save(path, lambda words: {"id": table.lookup(words)}, tf.TensorSpec([None], tf.string, "words"), table=table)


def leaky_rows(path: Path) -> None:
    """Centres every row on the batch's mean: an answer depends on who else is in the batch."""
    spec = tf.TensorSpec([None, 4], tf.float32, "x")
    _save(path, lambda x: {"y": x - tf.reduce_mean(x, axis=0, keepdims=True)}, spec)


def quietly_leaky_rows(path: Path) -> None:
    """Rows meet only when one of them is big."""
    spec = tf.TensorSpec([None, 4], tf.float32, "x")
    _save(path, lambda x: {"y": x / tf.maximum(tf.reduce_max(tf.abs(x)), 100.0)}, spec)


def fixed_rows(path: Path) -> None:
    _save(path, lambda x: {"y": x * 2.0}, tf.TensorSpec([1, 4], tf.float32, "x"))


def sequences(path: Path) -> None:
    """Rows and time steps are both free."""
    table = _random(10, 4)

    def call(tokens: Any) -> Any:
        return {"mean": tf.reduce_mean(tf.gather(table, tokens), axis=1)}

    _save(path, call, tf.TensorSpec([None, None], tf.int32, "tokens"), table=table)


def examples(path: Path) -> None:
    """Takes serialized tf.Example without defaults: nothing made up fits."""

    def call(serialized: Any) -> Any:
        return tf.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([2], tf.float32)})

    _save(path, call, tf.TensorSpec([None], tf.string, "serialized"))


def reads_a_file(path: Path) -> None:
    _save(path, lambda name: {"content": tf.io.read_file(name)}, tf.TensorSpec([], tf.string, "name"))


def calls_python(path: Path) -> None:
    def call(x: Any) -> Any:
        return {"y": tf.ensure_shape(tf.py_function(lambda v: v, [x], tf.float32), [None, 4])}

    _save(path, call, tf.TensorSpec([None, 4], tf.float32, "x"))


def prints_into_a_file(path: Path) -> None:
    def call(x: Any) -> Any:
        tf.print(x, output_stream="file:///tmp/never")
        return {"y": x}

    _save(path, call, tf.TensorSpec([None, 4], tf.float32, "x"))


def tensorflow_1(path: Path) -> None:
    """A graph, a session, reference variables and a Saver: what TensorFlow 1 wrote."""
    v1 = tf.compat.v1
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        weights = v1.get_variable("weights", shape=[4, 2], initializer=v1.ones_initializer(), use_resource=False)
        y = tf.matmul(x, weights, name="y")
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(path))
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()


def saves_while_serving(path: Path) -> None:
    def call(x: Any) -> Any:
        tf.raw_ops.SaveV2(prefix="/tmp/never", tensor_names=["x"], shape_and_slices=[""], tensors=[x])
        return {"y": x}

    _save(path, call, tf.TensorSpec([None, 4], tf.float32, "x"))


def looks_up_in_any_file(path: Path) -> None:
    """A table filled from a path that is a constant of the model instead of one of its assets."""

    def call(words: Any) -> Any:
        table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
        tf.raw_ops.InitializeTableFromTextFileV2(
            table_handle=table, filename="/etc/hostname", key_index=-2, value_index=-1, vocab_size=-1, delimiter=" "
        )
        default = tf.constant(-1, tf.int64)
        return {"id": tf.raw_ops.LookupTableFindV2(table_handle=table, keys=words, default_value=default)}

    _save(path, call, tf.TensorSpec([None], tf.string, "words"))


def keras_lambda(path: Path) -> None:
    """A .keras file whose layer is Python code."""
    layers = [tf.keras.Input((4,)), tf.keras.layers.Lambda(lambda x: x * 2)]
    tf.keras.Sequential(layers).save(path)


def mobilenet(path: Path) -> None:
    """The real architecture with random weights, at its narrowest."""
    tf.keras.utils.set_random_seed(2)
    model = tf.keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=10)
    # Random weights fade out over fifty layers until every answer is the same one, and nothing could be told wrong. One
    # look at a batch gives each normalisation what training would have given it.
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(np.random.default_rng(2).random((8, 96, 96, 3), np.float32), training=True)
    model.export(str(path), verbose=False)


def keras_text(path: Path) -> None:
    """Sentences in, a vocabulary inside, sentiment out."""
    tf.keras.utils.set_random_seed(3)
    layers = tf.keras.layers
    words = layers.TextVectorization(output_sequence_length=6, vocabulary=["the", "quick", "brown", "fox", "lazy"])
    sentences = tf.keras.Input((), dtype=tf.string, name="sentence")
    embedded = layers.Embedding(10, 4)(words(sentences))
    score = layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling1D()(embedded))
    tf.keras.Model(sentences, score).export(str(path), verbose=False)


def lstm(path: Path) -> None:
    """Token sequences of any length through a recurrent layer."""
    tf.keras.utils.set_random_seed(4)
    layers = tf.keras.layers
    tokens = tf.keras.Input((None,), dtype="int32", name="tokens")
    state = layers.LSTM(8)(layers.Embedding(10, 6)(tokens))
    tf.keras.Model(tokens, layers.Dense(3, activation="softmax")(state)).export(str(path), verbose=False)


def many_dtypes(path: Path) -> None:
    """64-bit integers that no float can hold, truth values, and half precision, in and out."""

    def call(key: Any, keep: Any, half: Any) -> Any:
        kept = tf.where(keep[:, None], half, tf.zeros_like(half))
        return {"next": key + 9007199254740993, "dropped": tf.logical_not(keep), "kept": kept}

    specs = tf.TensorSpec([None], tf.int64, "key"), tf.TensorSpec([None], tf.bool, "keep")
    _save(path, call, *specs, tf.TensorSpec([None, 3], tf.float16, "half"))


def tensorflow_1_several(path: Path) -> None:
    """TensorFlow 1 with two signatures, one over a variable and one over texts."""
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        name = v1.placeholder(tf.string, [None], name="name")
        weights = v1.get_variable("weights", initializer=np.eye(4, 3, dtype=np.float32), use_resource=True)
        scores = tf.matmul(x, weights)
        greeting = tf.strings.join([tf.constant("hello "), name])
        session.run(v1.global_variables_initializer())
        build, info = v1.saved_model.build_signature_def, v1.saved_model.build_tensor_info
        signatures = {
            "serving_default": build({"x": info(x)}, {"scores": info(scores)}, "tensorflow/serving/predict"),
            "greet": build({"name": info(name)}, {"greeting": info(greeting)}, "tensorflow/serving/predict"),
        }
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


def keras_saved_plainly(path: Path) -> None:
    """A functional Keras 3 model written by tf.saved_model.save instead of its own `export`."""
    tf.keras.utils.set_random_seed(5)
    image = tf.keras.Input((64,), name="image")
    hidden = tf.keras.layers.Dense(16, activation="relu")(image)
    tf.saved_model.save(tf.keras.Model(image, tf.keras.layers.Dense(10, activation="softmax")(hidden)), str(path))


def classify_and_regress(path: Path) -> None:
    """What an estimator exported: serialized tf.Example in, classes and scores out, and a number from the same
    features. TensorFlow 1, because only its builder names the method of a signature."""
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        serialized = v1.placeholder(tf.string, [None], name="tf_example")
        features = {
            "x": tf.io.FixedLenFeature([2], tf.float32),
            "color": tf.io.FixedLenFeature([1], tf.string, default_value=b"red"),
        }
        parsed = tf.io.parse_example(serialized, features)
        weights = v1.get_variable("weights", initializer=np.array([[1, 0, -1], [0, 1, 1]], np.float32))
        scores = tf.nn.softmax(parsed["x"] @ weights)
        names = tf.constant([b"left", b"right", b"both"])
        classes = tf.tile(names[None], [tf.shape(scores)[0], 1])
        red = tf.cast(tf.equal(parsed["color"][:, 0], b"red"), tf.float32)
        session.run(v1.global_variables_initializer())
        definitions = v1.saved_model.signature_def_utils
        signatures = {
            "serving_default": definitions.classification_signature_def(serialized, classes, scores),
            "regress": definitions.regression_signature_def(serialized, tf.reduce_sum(parsed["x"], axis=1) + red),
        }
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


def wide(path: Path, units: int) -> None:
    """Mostly weights: units x units of them, and little to compute with one row."""
    weights = _random(units, units)
    _save(path, lambda x: {"y": x @ weights}, tf.TensorSpec([None, units], tf.float32, "x"), weights=weights)


def bits(path: Path) -> None:
    """Every width of integer, wrapping around as the width says, and single values without rows."""

    def call(a: Any, b: Any, c: Any, d: Any, scale: Any) -> Any:
        return {"a": a + 1, "b": b + 1, "c": c + 1, "d": d * scale}

    dtypes = (tf.int8, tf.uint8, tf.int16, tf.float64)
    specs = [tf.TensorSpec([None], dtype, name) for dtype, name in zip(dtypes, "abcd", strict=True)]
    _save(path, call, *specs, tf.TensorSpec([], tf.float64, "scale"))
