"""How to read a report: the terms that it uses, each with what it means."""

from __future__ import annotations

from collections.abc import Iterable

from metasiam.reports.numbers import Json, episodes_of
from metasiam.reports.wording import is_of_pairs


def how_to_read(evaluations: Iterable[Json]) -> tuple[tuple[str, str], ...]:
    """Return the terms that these evaluations use, each with what it means, for who has not read the documentation."""
    listed = list(evaluations)
    if listed and all(is_of_pairs(evaluation) for evaluation in listed):
        return _OF_PAIRS
    unused = () if episodes_of(listed) else ("Episodes",)
    return tuple(entry for entry in _TERMS if entry[0] not in unused)


_INTERVALS = (
    "95 % intervals and “no clear winner”",
    "Other pairs and other classes would have given slightly different numbers; the interval (after ± or in "
    "brackets) says how different. Methods answer the very same pairs, and one is called the winner only where "
    "the interval of the difference leaves out zero.",
)
_ROC = (
    "ROC and AUC",
    "Moving the threshold trades missed pairs against false alarms; the ROC curve shows every such trade. "
    "The area under it (AUC) is 0.5 for guessing and 1 for never being wrong.",
)
_OF_PAIRS = (
    (
        "What is being tested",
        "The model looks at two pictures and says whether they show the same, such as the same person. It answers "
        "pairs that it was not trained on, each once.",
    ),
    (
        "Pair accuracy",
        "The share of right answers over the test pairs, where same and different pairs count alike, however many "
        "there are of each (balanced accuracy). Guessing, or always giving the same answer, is right in 50 %.",
    ),
    (
        "EER, TAR and ECE",
        "Equal error rate: the share of errors at the threshold where pairs taken for same and same pairs missed are "
        "equally frequent; 50 % for guessing. TAR at 1 % FAR: the share of same pairs found where one different pair "
        "in a hundred is taken for same. ECE: by how much the stated probabilities are wrong, on average.",
    ),
    (
        "Thresholds",
        "The model answers “same” when its score is above a threshold. Global: chosen on validation pairs, before the "
        "test. Oracle: the best possible one in hindsight; nobody could have known it, so it is an upper bound and no "
        "result.",
    ),
    (
        "95 % intervals",
        "Other pictures would have given slightly different numbers; the interval (after ± or in brackets) says how "
        "different.",
    ),
    _ROC,
)
_TERMS: tuple[tuple[str, str], ...] = (
    (
        "What is being tested",
        "The model looks at two pictures and says whether they show the same kind of thing (the same class). "
        "It is tested on held-out classes (also called domains): kinds of things that it did not meet in training.",
    ),
    (
        "Pair accuracy",
        "The share of right answers over pairs, half of which really are the same class. "
        "Guessing, or always giving the same answer, is right in 50 %.",
    ),
    (
        "Triplet accuracy",
        "Given one picture, another of the same class and one of a different class: how often the right one looks "
        "more similar. It needs no threshold. Guessing is right in 50 %.",
    ),
    (
        "Images known, adaptation",
        "How many labelled pictures of each held-out class the model was given before its test. Its threshold is "
        "fitted to them, and it adapts to them if that reliably helps other classes. With 0, it uses only what "
        "it learned from other classes. Test pictures are never among them.",
    ),
    (
        "Thresholds",
        "The model answers “same” when the similarity is above a threshold. Fixed: a number set beforehand. "
        "Global: chosen for each number of images, on validation classes or, without any, on seen ones. "
        "Calibrated (per task): fitted to each held-out class from the images known. Oracle: the best possible one in "
        "hindsight; nobody could have known it, so it is an upper bound, not a result.",
    ),
    (
        "Closed and antidomain",
        "Where the different pictures come from. Closed: from the other held-out classes. "
        "Antidomain: from the classes seen in training.",
    ),
    _INTERVALS,
    _ROC,
    (
        "Episodes",
        "5-way 1-shot: five held-out classes, one labelled picture of each; which of the five is a new picture? "
        "Guessing is right in 20 %. All-way: the same over all held-out classes at once.",
    ),
)
