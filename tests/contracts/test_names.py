import pytest

from contracts.errors import InvalidInput
from contracts.names import check_model_name


@pytest.mark.parametrize("name", ["digits", "_a", "1", "digits.v2", "a-b_c.d", "x" * 63])
def test_names_as_people_choose_them_are_fine(name):
    assert check_model_name(name) == name


@pytest.mark.parametrize("name", ["", ".a", "-a", "a/b", "a|b", "a..b", "ä", "x" * 64, "a b", "a\n"])
def test_a_name_that_a_path_or_a_statistic_could_misread_is_refused(name):
    with pytest.raises(InvalidInput, match="model name"):
        check_model_name(name)


def test_a_dot_at_the_end_is_refused_because_the_counts_would_be_another_models():
    with pytest.raises(InvalidInput, match=r"not ending with '\.'"):
        check_model_name("digits.")
