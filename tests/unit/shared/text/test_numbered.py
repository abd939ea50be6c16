"""Sentences are numbered in one line, and have a line each where there are lines."""

import pytest

from shared.text.numbered import in_lines, numbered

THREE = ["half of the rows are gone; the limit is 10 %", "the mean is 30 % higher; the limit is 25 %", "all rows have one rate"]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 12])
def test_numbered_sentences_are_told_apart_again(count):
    sentences = [THREE[number % 3] for number in range(count)]
    lines = in_lines(f"live keeps its result: {numbered(sentences)}")
    if count < 2:
        assert lines == [f"live keeps its result: {''.join(sentences)}"]
    else:
        assert lines == ["live keeps its result:", *(f"({number}) {sentence}" for number, sentence in enumerate(sentences, 1))]


@pytest.mark.parametrize("text", ["", "(1) alone", "a; b (2) c", "; (2) x (1) y", "f(1) and f(2)", "(1) a; (3) b"])
def test_any_other_text_is_one_line(text):
    assert in_lines(text) == [text]
