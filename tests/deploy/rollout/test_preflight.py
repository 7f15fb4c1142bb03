import pytest

from contracts.signature import Signature, TensorSpec
from deploy.rollout.preflight import problems

X = TensorSpec("x", "float32", (None, 28, 28))
Y = TensorSpec("y", "float32", (None, 10))


def signed(inputs: tuple[TensorSpec, ...] = (X,), outputs: tuple[TensorSpec, ...] = (Y,)) -> dict[str, Signature]:
    return {"serving_default": Signature("serving_default", inputs, outputs, batched=True)}


@pytest.mark.parametrize(
    "candidate",
    [
        signed(),
        signed((TensorSpec("x", "float32", None),)),
        signed((TensorSpec("x", "float32", (None, None, 28)),)),
        signed((X,), (Y, TensorSpec("more", "int64", (None,)))),
        signed() | {"another": signed()["serving_default"]},
    ],
    ids=["the same", "any shape", "a wider one", "one output more", "one signature more"],
)
def test_what_callers_would_not_notice_is_no_problem(candidate: dict[str, Signature]) -> None:
    assert problems(signed(), candidate) == ()


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        (signed((TensorSpec("x", "int8", (None, 28, 28)),)), "input 'x' is int8 [?, 28, 28], where callers send"),
        (signed((TensorSpec("x", "float32", (1, 28, 28)),)), "input 'x' is float32 [1, 28, 28], where callers send"),
        (signed((TensorSpec("x", "float32", (None, 28)),)), "where callers send float32 [?, 28, 28]"),
        (signed((TensorSpec("z", "float32", (None, 28, 28)),)), "input 'z' (float32 [?, 28, 28]) is new"),
        (signed((X, TensorSpec("z", "bool", ()))), "input 'z' (bool []) is new, and nobody sends it"),
        (signed((X,), ()), "output 'y' is gone, and callers read it"),
        (signed((X,), (TensorSpec("y", "float32", (None, 12)),)), "output 'y' is float32 [?, 12], where callers read"),
        (signed((X,), (TensorSpec("y", "float32", None),)), "output 'y' is float32 of any shape"),
        ({}, "signature 'serving_default' is gone"),
    ],
)  # fmt: skip
def test_what_callers_would_notice_is_named_with_what_they_send_or_read(
    candidate: dict[str, Signature], said: str
) -> None:
    assert any(said in problem for problem in problems(signed(), candidate)), problems(signed(), candidate)


def test_an_input_that_is_gone_is_named_too_and_no_more_than_a_handful_of_problems() -> None:
    many = tuple(TensorSpec(f"x{i}", "float32", (None,)) for i in range(9))
    found = problems(signed(many), signed((X,)))
    assert len(found) == 6
    assert found[-1] == "and 5 more"
    assert "input 'x0' is gone, and callers send it" in found
