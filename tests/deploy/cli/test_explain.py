"""`teal explain`: who answered, with what, and where that version comes from, in words."""

from tests.deploy.cli.conftest import Teal
from tests.deploy.cli.fake_gateway import DIGESTS, FakeGateway


def test_an_answer_is_explained_with_its_training(teal: Teal, gateway: FakeGateway) -> None:
    ran = teal("explain", "a/b")
    assert (ran.code, ran.err) == (0, "")
    for words in (
        "digits version 2, green, candidate then, live now",
        "a mirrored copy, nobody got this answer",
        "predicted: class 7, no number (2 rows)",
        f"digest: {DIGESTS[2]}, plan litert",
        "training run: run 7",
        f"dataset digest: {'d' * 64}",
        "git commit: c0ffee",
        "2 rows; the outputs are no class, score or text",
        "the registry does not know this version any more",
        "could not be asked: digits-1-blue-1",
    ):
        assert words in ran.out, words
    assert teal("explain", "a/b", "--json").json["answers"][0]["predicted"] == [7, None]


def test_a_forgotten_request_is_an_error_with_a_sentence(teal: Teal, gateway: FakeGateway) -> None:
    ran = teal("explain", "nobody")
    assert ran.code == 1
    assert "nobody remembers request" in ran.err


def test_without_a_gateway_nobody_can_be_asked(teal: Teal) -> None:
    ran = teal("explain", "a")
    assert ran.code == 1
    assert "teal up" in ran.err
