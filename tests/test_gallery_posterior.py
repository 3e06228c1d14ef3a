"""Probabilities of names and unknown: by Bayes' rule, honest, and wary where the embedder cannot tell names apart."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metasiam.evaluation.calibration import shrink
from metasiam.gallery import EmbedderKey, Gallery, calibrated, identify
from metasiam.gallery.calibrate import Background, own_scores
from metasiam.gallery.posterior import Gain, Line, Usual, adapted, fit, log_likelihood, probabilities, some_rows
from metasiam.gallery.recognise import answer_from, scorer_of
from metasiam.gallery.rehearsal import rehearse
from metasiam.gallery.rules import Rules
from metasiam.models.files import EmbedderInfo

KEY = EmbedderKey("weights", "abc", EmbedderInfo("resnet8", trained_on="blobs"))
SIZE = 16


def blobs(
    domains: int, images: int, *, seed: int, middle: float = 0.7, apart: float = 1.0, spread: float = 0.7
) -> tuple[Tensor, Tensor]:
    """Embeddings of length 1: the further out the middle and the less apart, the more all of them are of one kind."""
    generator = torch.Generator().manual_seed(seed)
    centres = middle + apart * torch.randn(domains, 1, SIZE, generator=generator)
    rows = centres + spread * torch.randn(domains, images, SIZE, generator=generator)
    return torch.nn.functional.normalize(rows.flatten(0, 1), dim=1), torch.arange(domains).repeat_interleave(images)


def background() -> Background:
    rows, labels = blobs(40, 12, seed=7)
    return Background(rows, labels, torch.full((len(rows), 6), 0.5), "blobs")


def enrolled(rows: Tensor, labels: Tensor, names: int, shots: int, *, alone: bool = False) -> Gallery:
    """Enrol the first domains with their first pictures."""
    made = Gallery(KEY, mirror=False, background=None if alone else background())
    for name in range(names):
        files = [f"{name}/{i}.png" for i in range(shots)]
        made = made.with_pictures(f"name {name:02}", files, rows[labels == name][:shots], torch.zeros(shots, 6))
    return calibrated(made)


def asked(names: int, shots: int, seed: int, *, alone: bool = False, **kind: float) -> tuple[Tensor, Tensor, Tensor]:
    """Ask a gallery about ten new pictures of each name, and of as many strangers of the same kind.

    Returns the probability of the answer, whether it is right, and the probability of unknown. The second half of the
    questions are the strangers.
    """
    rows, labels = blobs(2 * names, shots + 10, seed=seed, **kind)
    made = enrolled(rows, labels, names, shots, alone=alone)
    later = (torch.arange(shots + 10) >= shots).repeat(2 * names)
    answers = identify(made, rows[later])
    truth = [f"name {n:02}" if n < names else "unknown" for n in labels[later].tolist()]
    right = [answer.name == name for answer, name in zip(answers, truth, strict=True)]
    said, unknown = ([getattr(answer, field) for answer in answers] for field in ("probability", "unknown"))
    return torch.tensor(said), torch.tensor(right), torch.tensor(unknown)


def calibration_error(said: Tensor, right: Tensor) -> float:
    """Return the mean distance between what is said and the share of right answers, over tenths of what is said."""
    bins = (said * 10).long().clamp(max=9)
    off = [float((said - right.double())[bins == i].sum().abs()) for i in range(10)]
    return sum(off) / len(said)


@pytest.mark.parametrize(
    ("names", "shots", "kind"),
    [
        (5, 4, {}),
        (10, 1, {}),
        (10, 4, {"middle": 3.0, "apart": 0.6}),
        (10, 4, {"middle": 3.0, "apart": 0.15}),
    ],
    ids=["like the background", "one picture", "of one kind", "hopeless"],
)
def test_what_is_said_is_right_as_often_as_said(names: int, shots: int, kind: dict[str, float]) -> None:
    """Half of the questions are strangers, of the names' own kind."""
    found = [asked(names, shots, 100 + seed, **kind) for seed in range(8)]
    said, right, unknown = (torch.cat(part) for part in zip(*found, strict=True))
    strangers = torch.cat([torch.arange(len(part[0])) >= len(part[0]) // 2 for part in found])
    assert abs(float(said.mean() - right.double().mean())) < 0.07
    assert abs(float(unknown.mean()) - 0.5) < 0.07
    assert calibration_error(said, right) < 0.08
    assert calibration_error(unknown, strangers) < 0.08


@pytest.mark.parametrize("alone", [False, True], ids=["background", "no background"])
@pytest.mark.parametrize("shots", [1, 5])
def test_names_of_one_kind_that_the_background_is_not_let_no_stranger_in(shots: int, alone: bool) -> None:
    rows, labels = blobs(40, 8, seed=5, middle=3.0, apart=0.15)
    made = enrolled(rows, labels, 15, shots, alone=alone)
    refused = [answer.name == "unknown" for answer in identify(made, rows[labels >= 15])]
    assert sum(refused) / len(refused) > 0.9
    acted = rehearse(made)
    assert acted is not None
    assert acted.trouble() is not None
    assert "can hardly tell these names apart" in acted.said()[-1]
    # Of the background's own kind, they are told apart.
    fine = rehearse(enrolled(*blobs(15, 8, seed=5), 15, 5))
    assert fine is not None
    assert fine.trouble() is None


def test_the_line_is_bayes_rule_for_normal_scores() -> None:
    """By the densities of the model themselves, names and unknown having their probabilities from before."""
    generator = torch.Generator().manual_seed(0)
    names, spread, shared, lead = 4, 0.6, 0.3, 2.2
    level = torch.randn(names, generator=generator).double()
    usual = Usual(level, spread, shared)
    scores = level + 2 * torch.randn(9, names, generator=generator).double()
    covariance = spread**2 * ((1 - shared) * torch.eye(names) + shared).double()
    nobody = torch.distributions.MultivariateNormal(level, covariance)
    joint = []
    for name in range(names):
        raised = level + lead * spread * torch.eye(names).double()[name]
        right = torch.distributions.MultivariateNormal(raised, covariance)
        joint.append(math.log(0.5 / names) + right.log_prob(scores))
    joint.append(math.log(0.5) + nobody.log_prob(scores))
    expected = torch.stack(joint, 1).softmax(1)
    found = probabilities(Line.of(usual, Gain(lead), names).log_odds(scores - level))
    torch.testing.assert_close(found, expected)
    truth = torch.tensor([0, 1, 2, 3, -1, -1, 0, 2, -1])
    right = expected.gather(1, torch.where(truth < 0, names, truth).unsqueeze(1)).squeeze(1)
    found = log_likelihood(Line.of(usual, Gain(lead), names).log_odds(scores - level), truth)
    torch.testing.assert_close(found, right.log())


def test_one_name_alone_takes_nothing_off_for_what_is_shared() -> None:
    alone = Line.of(Usual(torch.zeros(1), 0.5, 0.8), Gain(2.0), 1)
    assert (alone.share, alone.slope, alone.margin) == (0.0, 4.0, 0.5)


def test_what_is_usual_equals_a_naive_loop() -> None:
    scores = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).double()
    foreign = torch.ones(7, 4, dtype=torch.bool)
    foreign[torch.arange(7), torch.arange(7) % 4] = False
    found = Usual.of(scores.masked_fill(~foreign, torch.nan), foreign)
    level = [scores[foreign[:, name], name].mean() for name in range(4)]
    off = {(q, n): float(scores[q, n] - level[n]) for q in range(7) for n in range(4) if foreign[q, n]}
    variance = sum(value**2 for value in off.values()) / len(off)
    products = [off[q, a] * off[q, b] for q, a in off for b in range(4) if b != a and (q, b) in off]
    torch.testing.assert_close(found.level, torch.stack(level))
    assert found.spread == pytest.approx(variance**0.5)
    assert found.shared == pytest.approx(max(sum(products) / len(products) / variance, 0))
    both = found.mixed(Usual(torch.zeros(4).double(), 2.0, 0.5), 0.25)
    torch.testing.assert_close(both.level, 0.75 * found.level)
    assert both.spread**2 == pytest.approx(0.75 * found.spread**2 + 0.25 * 4)
    even = found.evened()
    torch.testing.assert_close(even.level, found.level.mean().repeat(4))
    assert even.spread == pytest.approx((found.spread**2 + float(found.level.var(correction=0))) ** 0.5)
    assert both.shared == pytest.approx(0.75 * found.shared + 0.125)


def simulated(names: int, each: int, lead: float, *, seed: int = 0) -> tuple[Tensor, Usual, Tensor]:
    """Scores of the model itself, half of strangers, with what is usual and the truth."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.cat((torch.arange(names).repeat(each), torch.full((names * each,), -1)))
    own = torch.nn.functional.one_hot(truth.clamp(min=0), names) * (truth >= 0).unsqueeze(1)
    scores = torch.randn(len(truth), names, generator=generator) + lead * own
    return scores, Usual(torch.zeros(names), 1.0, 0.0), truth


def test_stretch_and_shift_are_the_likeliest_and_undo_a_wrong_lead() -> None:
    scores, usual, truth = simulated(5, 800, 2.0)
    right = fit([(scores, usual, truth)], 2.0)
    assert (right.stretch, right.shift) == pytest.approx((1, 0), abs=0.08)
    wrong = fit([(scores, usual, truth)], 4.0)  # evidence is then twice as steep, and starts later
    true, found = (Line.of(usual, gain, 5) for gain in (Gain(2.0), wrong))
    assert (found.slope, found.margin) == pytest.approx((true.slope, true.margin), rel=0.05)

    def likelihood(gain: Gain) -> float:
        each = log_likelihood(Line.of(usual, gain, 5).log_odds(scores.double()), truth)
        return float(each[truth >= 0].mean() + each[truth < 0].mean())

    for stretch, shift in ((0.02, 0.0), (-0.02, 0.0), (0.0, 0.02), (0.0, -0.02)):
        moved = replace(wrong, stretch=wrong.stretch + stretch, shift=wrong.shift + shift)
        assert likelihood(moved) < likelihood(wrong)


@pytest.mark.parametrize("true", [0.5, 1.0])
def test_own_pictures_say_how_far_their_names_stand_out(true: float) -> None:
    scores, usual, truth = simulated(6, 60, 2.5 * true)
    kept = truth >= 0
    lead, stretch = adapted(scores[kept], truth[kept], usual, Gain(2.5), 1.0)
    assert lead * stretch == pytest.approx(true, rel=0.3)  # the slope's factor
    few, _ = adapted(scores[:6], truth[:6], usual, Gain(2.5), 1.0)
    assert abs(math.log(few)) <= abs(math.log(lead)) + 0.25  # few pictures move it less
    only = scores[:6].masked_fill(torch.eye(6, dtype=torch.bool), torch.nan)
    assert adapted(only, truth[:6], usual, Gain(2.5), 0.7) == (0.7, 1.0)


def test_thresholds_weigh_the_other_names_the_more_the_more_there_are() -> None:
    rows, labels = blobs(12, 3, seed=1)
    for names in (2, 6, 12):
        made = enrolled(rows, labels, names, 3)
        rules, scorer = made.rules, scorer_of(made)
        assert rules is not None
        assert made.background is not None
        on_background = scorer.scores(made.background.embeddings).mean()
        scores, own = own_scores(scorer, made.embeddings, made.labels, most=10**6)
        of_others = torch.stack([scores[own != name, name].mean() for name in range(names)])
        levels = rules.levels().float()
        assert rules.strength <= 4
        others = names - 1
        everyone = of_others.mean()
        expected = on_background + others / (others + rules.strength) * (everyone - on_background)
        expected = expected + others / (others + 15) * (of_others - everyone)
        torch.testing.assert_close(levels, expected, atol=1e-4, rtol=0)
        for name in range(names):
            own_threshold = rules.own_thresholds[name]
            assert own_threshold == pytest.approx(float(of_others[name]) + rules.margin, abs=1e-4)
    far = enrolled(*blobs(12, 3, seed=1, middle=3.0, apart=0.3), 12, 3).rules
    assert far is not None
    assert far.strength < 1, "names of another kind than the background count nearly for themselves"
    assert shrink(1.0, 0.0, 11, far.strength) > 0.9


def test_galleries_without_margin_and_share_answer_as_they_did() -> None:
    """Their rule: named where the best score is above its threshold; even odds there."""
    values = enrolled(*blobs(3, 4, seed=1), 3, 4).rules
    assert values is not None
    old = {key: value for key, value in values.as_dict().items() if key not in ("margin", "share")}
    rules = Rules.from_dict({**old, "thresholds": [0.5, 1.0, 2.0], "slope": 3.0})
    answer = answer_from(("a", "b", "c"), rules, torch.tensor([0.9, 1.1, 0.0]))
    assert answer.name == "a"
    assert answer.guesses[0].threshold == pytest.approx(0.5)
    assert answer.guesses[0].probability / answer.unknown == pytest.approx(math.exp(3 * 0.4), rel=1e-5)
    assert answer_from(("a", "b", "c"), rules, torch.tensor([0.4, 0.9, 1.9])).name == "unknown"


def test_a_rehearsal_counts_what_identify_says_of_pictures_left_out() -> None:
    rows, labels = blobs(4, 5, seed=3, apart=0.5)
    made = enrolled(rows, labels, 4, 5)
    made = calibrated(made.with_pictures("single", ["s.png"], blobs(1, 1, seed=9)[0], torch.zeros(1, 6)))
    assert made.rules is not None
    acted = rehearse(made)
    assert acted is not None
    named, likeliest, wrong = [0] * 5, 0, 0
    pairs: dict[frozenset[str], int] = {}
    for place, label in enumerate(made.labels.tolist()):
        rest = torch.arange(21) != place
        if made.names[label] == "single":
            continue
        without = replace(made, embeddings=made.embeddings[rest], labels=made.labels[rest])
        answer = identify(without, made.embeddings[place : place + 1])[0]
        named[label] += answer.name == made.names[label]
        likeliest += answer.guesses[0].name == made.names[label]
        wrong += answer.name not in ("unknown", made.names[label])
        if answer.guesses[0].name != made.names[label]:
            pair = frozenset((answer.guesses[0].name, made.names[label]))
            pairs[pair] = pairs.get(pair, 0) + 1
    assert (acted.pictures, acted.tried, acted.of) == (21, 20, (5, 5, 5, 5, 0))
    assert (acted.named, acted.right) == (tuple(named), sum(named))
    assert (acted.likeliest, acted.wrong) == (likeliest, wrong)
    assert pairs, "some are confused, or this shows nothing"
    assert acted.confused[0][2] == max(pairs.values())
    assert {frozenset(pair[:2]): pair[2] for pair in acted.confused}.items() <= pairs.items()
    first, second, times = acted.confused[0]
    assert f"{acted.right} would be recognised" in acted.said()[0]
    assert f"Confused: {first} and {second} ({times})" in acted.said()[0]
    as_they_are = identify(made, made.embeddings)
    whole = sum(a.name == made.names[n] for a, n in zip(as_they_are, made.labels.tolist(), strict=True))
    assert acted.recognised == whole


def test_nothing_is_rehearsed_without_names_and_one_name_alone_has_no_strangers() -> None:
    assert rehearse(Gallery(KEY, mirror=False)) is None
    acted = rehearse(enrolled(*blobs(1, 4, seed=1), 1, 4))
    assert acted is not None
    assert (acted.tried, acted.strangers, acted.trouble()) == (4, 0, None)


def test_of_very_many_pictures_evenly_spread_ones_are_taken() -> None:
    labels = torch.arange(1000).repeat_interleave(4)
    assert torch.equal(some_rows(labels, 1000, 10**7), torch.arange(4000))
    rows = some_rows(labels, 1000, 100_000)
    assert len(rows) == 100
    assert rows[0] == 0
    assert rows[-1] == 3999
    assert int(rows.diff().max() - rows.diff().min()) <= 1
