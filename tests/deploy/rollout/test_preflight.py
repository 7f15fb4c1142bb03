import pytest

from contracts.signature import Signature, TensorSpec
from deploy.rollout.preflight import problems, renamed

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


def test_an_only_tensor_that_is_called_differently_is_worth_a_word_and_no_refusal() -> None:
    other = signed((TensorSpec("z", "float32", (None, 28, 28)),), (TensorSpec("q", "float32", (None, 10)),))
    assert problems(signed(), other) == ()
    assert renamed(signed(), other) == (
        "input 'x' is called 'z' by it, which callers who name it will notice",
        "output 'y' is called 'q' by it, which callers who name it will notice",
    )
    assert renamed(signed(), signed()) == renamed(signed(), {}) == ()


def test_a_function_with_two_names_is_told_of_once() -> None:
    twice = signed() | {"serve": signed()["serving_default"]}
    narrow = signed((TensorSpec("x", "int8", (None, 28, 28)),))["serving_default"]
    assert len(problems(twice, {"serving_default": narrow, "serve": narrow})) == 1


def test_an_input_that_is_gone_is_named_too_and_no_more_than_a_handful_of_problems() -> None:
    many = tuple(TensorSpec(f"x{i}", "float32", (None,)) for i in range(9))
    found = problems(signed(many), signed((X,)))
    assert len(found) == 6
    assert found[-1] == "and 5 more"
    assert "input 'x0' is gone, and callers send it" in found
