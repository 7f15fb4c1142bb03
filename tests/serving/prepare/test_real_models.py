"""Real architectures, prepared and then answered by the plan that was chosen: always what TensorFlow itself answers."""

from typing import Any

import numpy as np
import pytest

from contracts.package import Manifest
from serving.engine.opening import open_engine
from serving.prepare.compare import compare
from serving.prepare.generate import Recipe, generate
from serving.prepare.samples import as_array
from tests.serving.prepare.conftest import MakeModel, Preparer

pytestmark = pytest.mark.tensorflow

ANY = ("tensorflow", "litert", "openvino")


def differences(zoo: Any, source: Any, prepared: Preparer, manifest: Manifest, size: int = 8) -> list[str]:
    """What the package answers otherwise than TensorFlow, for all signatures and several numbers of rows."""
    tf = zoo.tf
    loaded = tf.saved_model.load(str(source))
    engine = open_engine(prepared.output, manifest, threads=1)
    wrong = []
    for signature in manifest.signatures:
        for rows in (1, 3, 8):
            inputs = generate(signature, rows, Recipe(size, "usual"))
            tensors = {i.name: tf.constant(inputs[i.name], tf.as_dtype(i.dtype)) for i in signature.inputs}
            expected = {name: as_array(t.numpy()) for name, t in loaded.signatures[signature.name](**tensors).items()}
            found = compare(expected, engine.run(signature.name, inputs)).wrong
            if found is not None:
                wrong.append(f"{signature.name}, {rows} rows: {found}")
    return wrong


@pytest.mark.parametrize(
    ("name", "plans"),
    [
        ("mobilenet", ("litert", "openvino")),
        ("keras_text", ("tensorflow",)),
        ("keras_saved_plainly", ("litert", "openvino")),
        ("several_signatures", ANY),
        ("many_dtypes", ANY),
        ("tensorflow_1", ANY),
        ("tensorflow_1_several", ("tensorflow",)),
    ],
)
def test_the_chosen_plan_answers_as_tensorflow(
    name: str, plans: tuple[str, ...], model: MakeModel, zoo: Any, prepared: Preparer
) -> None:
    manifest = prepared(model(name))
    assert manifest.plan in plans, manifest.plans
    assert all(s.batched for s in manifest.signatures), manifest.plan_report("tensorflow").reason
    assert differences(zoo, model(name), prepared, manifest) == []


@pytest.mark.parametrize("length", [1, 5, 40])
def test_sequences_of_any_length_are_answered_as_tensorflow(
    length: int, model: MakeModel, zoo: Any, prepared_lstm: Any
) -> None:
    prepared, manifest = prepared_lstm
    assert manifest.signatures[0].batched
    assert differences(zoo, model("lstm"), prepared, manifest, length) == []


@pytest.fixture(scope="module")
def prepared_lstm(model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Preparer, Manifest]:
    prepared = Preparer(tmp_path_factory.mktemp("lstm"))
    return prepared, prepared(model("lstm"))


def test_big_whole_numbers_keep_their_last_digit(model: MakeModel, prepared: Preparer) -> None:
    manifest = prepared(model("many_dtypes"))
    engine = open_engine(prepared.output, manifest, threads=1)
    inputs = {"key": np.array([2]), "keep": np.array([True]), "half": np.ones((1, 3), np.float16)}
    answer = engine.run("serving_default", inputs)
    assert (answer["next"].dtype, answer["next"].tolist()) == (np.int64, [9007199254740995])
    assert (answer["kept"].dtype, answer["dropped"].tolist()) == (np.float16, [False])
