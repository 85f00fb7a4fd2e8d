"""What many slices say in few sentences: nothing is lost, nothing is said of another slice."""

import re

import numpy as np

from pdip.report.sentences import merged, named, of_slices


def test_sentences_that_differ_in_a_word_stay_apart():
    sentences = ["a fit of 3", "the fit of 3", "a fit of 3 steps", "a fit of three"]
    assert merged(sentences) == sentences
    assert merged([*sentences, *sentences]) == sentences


def test_every_number_lies_in_the_range_that_is_printed_and_its_ends_occur():
    draw = np.random.default_rng(0)
    values = [*draw.normal(size=20), 1e-7, -3e5, 12.0]
    [said] = merged(f"left {value:.3g} of {7} (v1.2.3) after x16" for value in values)
    low, high = re.fullmatch(r"left (\S+) to (\S+) of 7 \(v1.2.3\) after x16", said).groups()
    printed = [float(f"{value:.3g}") for value in values]
    assert float(low) == min(printed) and float(high) == max(printed)


def test_named_slices_are_those_and_no_others():
    draw = np.random.default_rng(1)
    for _ in range(50):
        every = [int(n) for n in np.flatnonzero(draw.random(14) < 0.8)]
        numbers = [n for n in every if draw.random() < 0.6] or every
        found = []
        for part in named(numbers, every).split(" ", 1)[1].split(", "):
            ends = [int(end) for end in part.split(" to ")]
            found += [n for n in every if ends[0] <= n <= ends[-1]]
        assert found == numbers
        assert named(every, every) == f"slices {every[0]} to {every[-1]}"


def test_a_sentence_is_said_once_of_all_its_slices_and_stays_a_warning():
    said = {n: ["WARNING: left 3 times", f"gain {n}"] for n in range(3, 8)} | {0: ["WARNING: odd"]}
    said = dict(sorted({**said, 1: [], 2: ["gain 9"]}.items()))
    assert of_slices(said) == [
        "WARNING: slice 0: odd",
        "slices 2 to 7: gain 3 to 9",
        "WARNING: slices 3 to 7: left 3 times",
    ]


def test_a_slice_that_says_a_sentence_twice_is_named_once():
    assert of_slices({4: ["restart of 2 steps", "restart of 5 steps"]}) == [
        "slice 4: restart of 2 to 5 steps"
    ]
