"""How far texts are trusted: the rule on texts that are useless, swapped or half missing, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isomix._documents import read_document, write_document
from isomix.fewshot import LDA, MixedPrototypes, NearestClassMean, ProjectAndMix, ZeroShot, load_classifier
from isomix.fewshot.leave_one_out import MixedCosines
from isomix.fewshot.prototypes import PrototypeCosine
from isomix.fewshot.text_trust import (
    DISTANT_SHOTS,
    log_loss_temperature,
    mend,
    nearest_rival,
    reliability,
    text_trust,
)
from isomix.linalg import normalize_rows

C, D, SCALE = 20, 64, 50.0


class World:
    """Classes with pictures around their centres and texts that share part of them, as CLIP's do: beyond a gap."""

    def __init__(self, shots: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.rng = rng
        common, gap = rng.normal(size=D), rng.normal(size=D)
        centres = rng.normal(size=(C, D))
        self.text = normalize_rows(centres + 0.8 * rng.normal(size=(C, D)) + 1.5 * gap)
        self.y = np.repeat(np.arange(C), shots)
        self.X = self._pictures(centres, common, self.y)
        self.q = np.repeat(np.arange(C), 20)
        self.Q = self._pictures(centres, common, self.q)

    def _pictures(self, centres: np.ndarray, common: np.ndarray, y: np.ndarray) -> np.ndarray:
        return normalize_rows(centres[y] + 1.3 * self.rng.normal(size=(len(y), D)) + common)

    def random_text(self) -> np.ndarray:
        """Of a tower of random weights: a narrow cone."""
        return normalize_rows(self.rng.normal(size=(C, D)) + 2.0 * self.rng.normal(size=D))

    def swapped(self, n: int) -> np.ndarray:
        """The first n texts moved on by one class."""
        text = self.text.copy()
        text[:n] = np.roll(text[:n], 1, axis=0)
        return text

    def score(self, clf: object, text: np.ndarray | None) -> float:
        return float(clf.fit(self.X, self.y, text=text).score(self.Q, self.q))  # type: ignore[attr-defined]


def test_z_is_the_matched_similarity_in_deviations_of_the_unmatched() -> None:
    """Against a plain computation with loops over the classes."""
    S = np.random.default_rng(1).normal(size=(5, 5)) + 3.0 * np.eye(5)
    off = [(i, j) for i in range(5) for j in range(5) if i != j]
    row = [np.mean([S[i, j] for j in range(5) if j != i]) for i in range(5)]
    column = [np.mean([S[i, j] for i in range(5) if i != j]) for j in range(5)]
    grand = np.mean([S[i, j] for i, j in off])
    centred = {(i, j): S[i, j] - row[i] - column[j] + grand for i in range(5) for j in range(5)}
    deviation = np.sqrt(sum(centred[pair] ** 2 for pair in off) / (4**2 - 5))
    found = reliability(S, np.eye(len(S)))
    assert found.deviation == pytest.approx(deviation, rel=1e-6)
    np.testing.assert_allclose(found.z, [centred[c, c] / deviation for c in range(5)], rtol=1e-6)


def test_a_text_that_fits_worse_than_chance_is_not_useful() -> None:
    S = np.random.default_rng(2).normal(size=(30, 30)) + 4.0 * np.eye(30)
    S[3, 3] = -12.0
    found = reliability(S, np.eye(len(S)))
    assert found.posterior[3] < 0.5 and found.posterior[np.arange(30) != 3].mean() > 0.8
    order = np.argsort(found.z)
    assert (np.diff(found.posterior[order]) >= 0).all()


def test_useless_texts_have_z_around_zero() -> None:
    z = np.concatenate(
        [reliability(np.random.default_rng(seed).normal(size=(20, 20)), np.eye(20)).z for seed in range(50)]
    )
    assert abs(z.mean()) < 0.1 and 0.85 < z.std() < 1.15


def test_temperature_is_the_minimum_of_its_loss() -> None:
    logits = 8.0 * np.random.default_rng(3).normal(size=(12, 12)) + 6.0 * np.eye(12)

    def loss(t: float) -> float:
        cooled = logits / t
        return float(np.mean(np.log(np.exp(cooled).sum(axis=1)) - np.diag(cooled)) + 0.5 * np.log(t) ** 2 / 12)

    t, value = log_loss_temperature(logits, np.arange(12))
    assert value == pytest.approx(loss(t), abs=1e-6)
    assert value <= min(loss(t * 1.1), loss(t / 1.1))


def test_the_worth_of_a_text_goes_with_how_near_the_rivals_are() -> None:
    """Two classes with a product of ½, a third far from both."""
    means = np.array([[1.0, 0.0, 0.0], [0.5, np.sqrt(0.75), 0.0], [0.0, 0.0, 1.0]])
    assert nearest_rival(means) == pytest.approx((0.5 + 0.5 + 0.0) / 3)
    two = text_trust(means[:2], means[:2], 100.0)
    assert two == (pytest.approx(DISTANT_SHOTS / 0.5), 0)


@pytest.mark.parametrize("seed", range(3))
def test_one_shot_takes_the_right_branch(seed: int) -> None:
    world = World(1, seed)
    for text, low, high in ((world.text, 0, 2), (world.random_text(), C, C), (np.roll(world.text, 1, axis=0), C, C)):
        clf = MixedPrototypes(logit_scale=SCALE).fit(world.X, world.y, text=text)
        assert low <= clf.untrusted_texts_ <= high and clf.weight_tier_ == "prior"
    wrong = MixedPrototypes(logit_scale=SCALE).fit(world.X, world.y, text=world.swapped(5))
    assert wrong.trusted_texts_[:5].sum() <= 1 and wrong.trusted_texts_[5:].sum() >= C - 7


@pytest.mark.parametrize("seed", range(3))
def test_at_one_shot_useless_texts_give_the_nearest_class_mean(seed: int) -> None:
    world = World(1, seed)
    text = world.random_text()
    clf = ProjectAndMix(logit_scale=SCALE).fit(world.X, world.y, text=text)
    mean = NearestClassMean(logit_scale=SCALE).fit(world.X, world.y)
    np.testing.assert_allclose(clf.logits(world.Q), mean.logits(world.Q), atol=1e-10)
    assert clf.weights_ == {"mixing_weight": 1.0, "n_directions": 0, "ensemble_weight": 0.0, "untrusted_texts": C}


@pytest.mark.parametrize("shots", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["true", "random", "swapped", "half"])
def test_never_far_below_the_better_part(shots: int, kind: str) -> None:
    """In the mean of three worlds, at most 3 points."""
    gaps = []
    for seed in range(3):
        world = World(shots, seed)
        text = world.text.copy()
        if kind == "random":
            text = world.random_text()
        elif kind == "swapped":
            text = world.swapped(C // 5)
        elif kind == "half":
            text[::2] = world.random_text()[::2]
        parts = [ZeroShot(logit_scale=SCALE), MixedPrototypes(logit_scale=SCALE), NearestClassMean(logit_scale=SCALE)]
        parts += [LDA()] if shots > 1 else []
        own = world.score(ProjectAndMix(logit_scale=SCALE), text)
        gaps.append([own - world.score(part, text) for part in parts])
    assert np.mean(gaps, axis=0).min() > -0.03


def test_mended_texts_are_the_mean_of_the_others_with_one_offset() -> None:
    world = World(1)
    means, known = normalize_rows(world.X.astype(np.float64)), np.arange(C)
    text = world.text.astype(np.float64)
    text[:4] *= -1.0
    texts, offsets, trusted = mend(means, text, known, 4, SCALE)
    assert not trusted[:4].any() and trusted[4:].all()
    np.testing.assert_array_equal(texts[trusted], text[trusted])
    direction = text[trusted].mean(axis=0)
    np.testing.assert_allclose(texts[:4], np.tile(direction / np.linalg.norm(direction), (4, 1)), atol=1e-12)
    assert not offsets[trusted].any() and len(set(offsets[~trusted])) == 1
    # In the mean of the shots, x·t' + offset is x·g plus 0 to 5 deviations.
    added = (means @ texts[0] + offsets[0]).mean() - (means @ direction).mean()
    steps = added / reliability(means, text).deviation * 2
    assert 0 <= round(steps) <= 10 and steps == pytest.approx(round(steps), abs=1e-3)
    for none in (0, C):
        assert mend(means, text, known, none, SCALE).texts is text


def test_mended_texts_are_left_out_exactly() -> None:
    """The closed form with offsets against refits with the same texts and weights."""
    world = World(3)
    clf = MixedPrototypes(0.3, untrusted_texts=4, logit_scale=SCALE).fit(world.X, world.y, text=world.swapped(4))
    term = clf._sum.parts[0].term
    assert isinstance(term, PrototypeCosine)
    texts, offsets, _ = term.texts(clf._values)
    from isomix.fewshot.held_out import leave_one_out

    held_out = leave_one_out(world.X, world.y, np.ones(len(world.y)), clf.moments_)
    assert held_out is not None
    cosines = MixedCosines(
        held_out, clf.moments_, clf.means_, texts, None, offsets=offsets, footing=False
    )(0.3, 0)  # fmt: skip
    for i in (0, 7, 40):
        rest = np.arange(len(world.y)) != i
        u = normalize_rows(np.stack([world.X[rest & (world.y == c)].mean(axis=0) for c in range(C)]))
        mixed = 0.3 * u + 0.7 * texts
        expected = (mixed @ world.X[i] + 0.7 * offsets) / np.linalg.norm(mixed, axis=1)
        np.testing.assert_allclose(cosines[i], expected, atol=1e-10)
    np.testing.assert_allclose(clf.logits(world.Q), world.Q @ clf.coef_.T + clf.intercept_, atol=1e-10)


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize("kind", ["true", "random", "swapped"])
def test_weights_and_files_make_the_same_classifier(shots: int, kind: str, tmp_path: Path) -> None:
    world = World(shots)
    text = {"true": world.text, "random": world.random_text(), "swapped": world.swapped(4)}[kind]
    clf = ProjectAndMix(logit_scale=SCALE).fit(world.X, world.y, text=text)
    again = ProjectAndMix(**clf.weights_, logit_scale=SCALE).fit(world.X, world.y, text=text)  # type: ignore[arg-type]
    assert again.weight_tier_ == "given" and again.weights_ == clf.weights_
    np.testing.assert_array_equal(again.logits(world.Q), clf.logits(world.Q))
    clf.save(tmp_path / "clf.safetensors")
    stored = load_classifier(tmp_path / "clf.safetensors")
    np.testing.assert_array_equal(stored.logits(world.Q), clf.logits(world.Q))
    np.testing.assert_array_equal(stored.trusted_texts_, clf.trusted_texts_)  # type: ignore[attr-defined]


def test_files_from_before_trust_every_text(tmp_path: Path) -> None:
    world = World(1)
    text = world.swapped(6)
    old = ProjectAndMix(1 / 9, logit_scale=SCALE).fit(world.X, world.y, text=text)
    old.save(tmp_path / "old.safetensors")
    document = read_document(tmp_path / "old.safetensors", "classifier")
    document.parameters["arguments"] = {"logit_scale": SCALE}
    del document.parameters["learned"]["untrusted_texts_"]
    write_document(tmp_path / "old.safetensors", document)
    again = load_classifier(tmp_path / "old.safetensors")
    np.testing.assert_allclose(again.logits(world.Q), old.logits(world.Q), atol=1e-12)
    assert again.weights_["untrusted_texts"] == 0


def test_classes_without_text_or_pictures_are_not_judged() -> None:
    world = World(2)
    text = {c: None if c == 3 else world.text[c] for c in range(C)}
    world.X, world.y = world.X[world.y != 5], world.y[world.y != 5]  # a class by its name alone
    clf = ProjectAndMix(logit_scale=SCALE).fit(world.X, world.y, text=text)
    assert clf.untrusted_texts_ == 0 and not clf.trusted_texts_[3] and clf.trusted_texts_.sum() == C - 1
    few = ProjectAndMix(logit_scale=SCALE).fit(world.X[:4], world.y[:4], text={0: text[0], 1: text[1]})
    assert few.untrusted_texts_ == 0  # of two classes nothing can be told


def test_without_text_the_discriminant_leads() -> None:
    """At two shots its weight is the rule's, not that of a leave-one-out that takes half of a class away."""
    world = World(2)
    clf = ProjectAndMix(logit_scale=SCALE).fit(world.X, world.y)
    mean, lda = (part.term.linear(clf._values)(world.X) for part in clf._sum.parts)
    assert clf.ensemble_weight_ > 0
    ratio = clf.ensemble_weight_ * lda.std(axis=1).mean() / mean.std(axis=1).mean()
    assert 0.5 < ratio < 8  # twice as much, on the shots left out
