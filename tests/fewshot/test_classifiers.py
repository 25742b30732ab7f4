"""The contract of the prototype classifiers, LDA and Project and Mix: algebra, text, updates, files, bad input."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.covariance import oas
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from isomix._documents import read_document, write_document
from isomix.errors import FileFormatError, InputError, IsomixWarning, NotFittedError
from isomix.fewshot import (
    CLASSIFIERS,
    LDA,
    FewShotClassifier,
    MixedPrototypes,
    NearestClassMean,
    ProjectAndMix,
    TextAlignedPrototypes,
    ZeroShot,
    load_classifier,
)
from isomix.fewshot.texts import read_texts
from isomix.linalg import normalize_rows
from isomix.spaces import TextPCA

Problem = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def problem() -> Problem:
    """X, y (strings), T, queries: five classes of four shots in twelve dimensions."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(5, 12))
    y = np.repeat(["ant", "bee", "cow", "dog", "elk"], 4)
    X = normalize_rows(np.repeat(centres, 4, axis=0) + 0.6 * rng.normal(size=(20, 12)))
    T = normalize_rows(centres + 0.6 * rng.normal(size=(5, 12)) + 2.0)
    return X, y, T, normalize_rows(rng.normal(size=(50, 12)))


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(p / p.sum(1, keepdims=True))


# ---------------------------------------------------------------------------------------------------- formulas


def test_weights_zero_are_zero_shot_bit_for_bit(problem: Problem) -> None:
    X, y, T, Q = problem
    expected = ZeroShot().fit(X, y, text=T).logits(Q)
    for clf in (MixedPrototypes(0.0), TextAlignedPrototypes(0.0, 3), ProjectAndMix(0.0, 3, 0.0)):
        np.testing.assert_array_equal(clf.fit(X, y, text=T).logits(Q), expected)
    np.testing.assert_allclose(expected, 100.0 * Q @ T.T, rtol=1e-12)


def test_the_formulas_of_the_notes(problem: Problem) -> None:
    X, y, T, Q = problem
    mu = np.stack([X[y == c].mean(0) for c in np.unique(y)])
    u = normalize_rows(mu)
    np.testing.assert_allclose(NearestClassMean().fit(X, y).logits(Q), 100 * Q @ u.T)
    np.testing.assert_allclose(
        MixedPrototypes(0.3).fit(X, y, text=T).logits(Q), 100 * Q @ normalize_rows(0.3 * u + 0.7 * T).T
    )
    V = np.linalg.svd(T)[2][:3]
    m = normalize_rows(0.3 * normalize_rows(mu @ V.T @ V) + 0.7 * T)
    aligned = TextAlignedPrototypes(0.3, 3).fit(X, y, text=T)
    np.testing.assert_allclose(aligned.logits(Q), 100 * Q @ m.T)
    both = ProjectAndMix(0.3, 3, 0.7, shrinkage="oas").fit(X, y, text=T)
    lda = LDA(shrinkage="oas").fit(X, y)
    np.testing.assert_allclose(both.logits(Q), aligned.logits(Q) + 0.7 * lda.logits(Q))


@pytest.mark.parametrize("shrinkage", [0.2, "oas"])
def test_lda_is_scikit_learns_with_the_same_covariance(problem: Problem, shrinkage: float | str) -> None:
    X, y, _, Q = problem
    if shrinkage == "oas":
        residuals = X - np.stack([X[y == c].mean(0) for c in np.unique(y)])[np.searchsorted(np.unique(y), y)]
        fraction = float(oas(residuals, assume_centered=True)[1])
    else:
        fraction = float(shrinkage)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=fraction).fit(X, y)
    np.testing.assert_allclose(
        LDA(shrinkage=shrinkage).fit(X, y).predict_proba(Q), reference.predict_proba(Q), atol=1e-10
    )


def test_several_prompts_are_their_normalised_mean(problem: Problem) -> None:
    X, y, T, Q = problem
    rng = np.random.default_rng(0)
    prompts = T[:, None] + 0.1 * rng.normal(size=(5, 3, 12))
    mean = normalize_rows((prompts / np.linalg.norm(prompts, axis=2, keepdims=True)).mean(1))
    expected = ZeroShot().fit(X, y, text=mean).logits(Q)
    np.testing.assert_allclose(ZeroShot().fit(X, y, text=prompts).logits(Q), expected)
    ragged = dict(zip(np.unique(y).tolist(), prompts, strict=True))
    np.testing.assert_allclose(ZeroShot().fit(text=ragged).logits(Q), expected)
    uneven = [prompts[0][:1], *prompts[1:]]
    named = dict(zip(np.unique(y).tolist(), uneven, strict=True))
    np.testing.assert_array_equal(
        ZeroShot().fit(X, y, text=uneven).logits(Q), ZeroShot().fit(X, y, text=named).logits(Q)
    )


def test_mixing_weight_grows_with_the_shots(problem: Problem) -> None:
    X, y, T, _ = problem
    one = ProjectAndMix().fit(X[::4], y[::4], text=T)
    assert one.weight_tier_ == "prior" and one.mixing_weight_ == pytest.approx(1 / (1 + one.prior_shots_))
    assert one.ensemble_weight_ == 0
    clf = ProjectAndMix().fit(X, y, text=T)
    assert clf.weight_tier_ == "leave-one-out" and clf.mixing_weight_ == pytest.approx(4 / (4 + clf.prior_shots_))
    assert 1 <= clf.n_directions_ <= 5


def test_validation_tiers(problem: Problem) -> None:
    X, y, T, _ = problem
    rng = np.random.default_rng(9)
    Xv, yv = normalize_rows(np.repeat(X, 3, 0) + 0.2 * rng.normal(size=(60, 12))), np.repeat(y, 3)
    assert ProjectAndMix().fit(X, y, text=T, validation=(Xv, yv)).weight_tier_ == "validation"
    few = ProjectAndMix().fit(X, y, text=T, validation=(Xv, yv), tier="few-validation")
    assert few.weight_tier_ == "few-validation"
    assert ProjectAndMix(0.2, 3, 0.0).fit(X, y, text=T).weight_tier_ == "given"
    for tier, validation in (("validation", None), ("leave-one-out", (Xv, yv)), ("none", None), ("few", (Xv, yv))):
        with pytest.raises(InputError, match="expected 'leave-one-out' without"):
            ProjectAndMix().fit(X, y, text=T, validation=validation, tier=tier)
    with pytest.raises(InputError, match="validation"):
        ProjectAndMix().fit(X, y, text=T, validation=(Xv, ["gnu"] * 60))


def test_without_text_images_alone_decide(problem: Problem) -> None:
    X, y, _, Q = problem
    expected = NearestClassMean().fit(X, y).logits(Q)
    np.testing.assert_array_equal(MixedPrototypes().fit(X, y).logits(Q), expected)
    np.testing.assert_array_equal(TextAlignedPrototypes().fit(X, y).logits(Q), expected)
    assert ProjectAndMix().fit(X, y).mixing_weight_ == 1.0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(problem: Problem, dtype: type) -> None:
    X, y, T, Q = (part.astype(dtype) if part.dtype.kind == "f" else part for part in problem)
    clf = ProjectAndMix(0.3, 3, 0.1).fit(X, y, text=T)
    assert clf.logits(Q).dtype == (np.float64 if dtype is np.float64 else np.float32)
    exact = ProjectAndMix(0.3, 3, 0.1).fit(*problem[:2], text=problem[2]).logits(problem[3])
    np.testing.assert_allclose(clf.logits(Q), exact, atol={np.float16: 0.5, np.float32: 2e-4, np.float64: 0}[dtype])


@pytest.mark.parametrize("method", list(CLASSIFIERS))
def test_the_weights_are_constructor_arguments(problem: Problem, method: str) -> None:
    """What was chosen, given again, is the same classifier."""
    X, y, T, Q = problem
    chosen = CLASSIFIERS[method]().fit(X, y, text=T)
    given = CLASSIFIERS[method](**chosen.weights_).fit(X, y, text=T)
    assert given.weight_tier_ == "given" and given.weights_ == chosen.weights_
    np.testing.assert_array_equal(given.logits(Q), chosen.logits(Q))
    assert all(isinstance(number, int | float) for number in chosen.weights_.values())


def test_every_classifier_says_what_it_chose(problem: Problem) -> None:
    X, y, T, _ = problem
    both = {"alpha", "sharpness"}
    expected: dict[str, set[str]] = {
        "zero-shot": set(), "nearest-class-mean": set(), "lda": set(), "mixed-prototypes": {"mixing_weight", "untrusted_texts"},
        "text-aligned-prototypes": {"mixing_weight", "n_directions", "untrusted_texts"}, "gda": {"alpha"}, "timo": {"alpha", "gamma"},
        "project-and-mix": {"mixing_weight", "n_directions", "ensemble_weight", "untrusted_texts"}, "tip-adapter": both, "ape": both,
        "proker": both, "proto-clip": {"mixing_weight", "sharpness"},
    }  # fmt: skip
    assert {method: set(cls().fit(X, y, text=T).weights_) for method, cls in CLASSIFIERS.items()} == expected


def test_the_base_class_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        FewShotClassifier()  # type: ignore[abstract]


# ------------------------------------------------------------------------------------------- missing modalities


def test_classes_with_text_or_pictures_only(problem: Problem) -> None:
    X, y, T, Q = problem
    names = np.unique(y).tolist()
    text = dict(zip(names, T, strict=True)) | {"ant": None, "fox": T[0]}
    del text["bee"]
    for cls in (ProjectAndMix, MixedPrototypes, TextAlignedPrototypes, LDA, NearestClassMean):
        with pytest.warns(IsomixWarning, match="pictures and no text: 'bee'; text and no pictures: 'fox'"):
            clf = cls().fit(X, y, text=text)
        assert clf.classes_.tolist() == [*names, "fox"]
        assert clf.counts_.tolist() == [4, 4, 4, 4, 4, 0]
        assert clf.logits(Q).shape == (50, 6)
        assert "ant" in clf.predict(X[y == "ant"])
    # The text-only class wins for a picture made from its own imputed mean.
    clf = MixedPrototypes(0.5).fit(X, y, text=text | {"bee": None})
    assert clf.predict(clf.means_[-1:]) == ["fox"]


# ----------------------------------------------------------------------------------------------------- updates


@pytest.mark.parametrize("method", list(CLASSIFIERS))
def test_partial_fit_equals_fit(problem: Problem, method: str) -> None:
    X, y, T, Q = problem
    text = dict(zip(np.unique(y).tolist(), T, strict=True))
    arguments: dict[str, Any] = {
        "mixed-prototypes": {"mixing_weight": 0.3},
        "text-aligned-prototypes": {"mixing_weight": 0.3, "n_directions": 3},
        "project-and-mix": {"mixing_weight": 0.3, "n_directions": 3, "ensemble_weight": 0.2},
        "gda": {"alpha": 0.2},
        "timo": {"alpha": 0.2, "gamma": 10.0},
        "tip-adapter": {"alpha": 1.0, "sharpness": 3.0},
        "ape": {"alpha": 1.0, "sharpness": 3.0},
        "proker": {"alpha": 1.0, "sharpness": 3.0},
        "proto-clip": {"mixing_weight": 0.3, "sharpness": 20.0},
    }.get(method, {})
    cls = CLASSIFIERS[method]
    whole = cls(**arguments).fit(X, y, text=text)
    first = (y < "dog") & (np.arange(20) % 4 < 1)  # one shot a class, so that there is no scatter yet
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IsomixWarning)
        part = cls(**arguments).fit(X[first], y[first], text={c: t for c, t in text.items() if c < "dog"})
    part.partial_fit(X[~first][::2], y[~first][::2], text={"dog": T[3], "elk": T[4]})
    part.partial_fit(X[~first][1::2], y[~first][1::2])
    np.testing.assert_allclose(part.logits(Q), whole.logits(Q), atol=1e-10)


def test_partial_fit_refuses_misspelt_labels(problem: Problem) -> None:
    X, y, T, _ = problem
    clf = ProjectAndMix().fit(X, y, text=T)
    with pytest.raises(InputError, match=r"'cwo'.*misspellings"):
        clf.partial_fit(X[:1], ["cwo"])
    clf.partial_fit(X[:1] + 0.0, ["cwo"], classes=["cwo"])
    assert "cwo" in clf.classes_


def test_partial_fit_keeps_the_worth_of_a_text(problem: Problem) -> None:
    X, y, T, _ = problem
    clf = MixedPrototypes().fit(X[::2], y[::2], text=T)
    before = clf.prior_shots_
    clf.partial_fit(X[1::2], y[1::2])
    assert clf.prior_shots_ == before and clf.mixing_weight_ == pytest.approx(4 / (4 + before))


def test_ledoit_wolf_cannot_be_updated(problem: Problem) -> None:
    X, y, _, _ = problem
    with pytest.raises(InputError, match="ledoit-wolf"):
        LDA(shrinkage="ledoit-wolf").fit(X[::2], y[::2]).partial_fit(X[1::2], y[1::2])


# ------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("method", list(CLASSIFIERS))
@pytest.mark.parametrize("labels", ["U", "O", "int"])
def test_save_and_load(problem: Problem, method: str, labels: str, tmp_path: Path) -> None:
    X, y, T, Q = problem
    y = np.searchsorted(np.unique(y), y).astype(np.int16) * 7 if labels == "int" else y.astype(labels)
    clf = CLASSIFIERS[method](calibrate=True).fit(X[::2], y[::2], text=T)
    clf.save(tmp_path / "clf.safetensors")
    again = load_classifier(tmp_path / "clf.safetensors")
    assert type(again) is type(clf) and again.get_params() == clf.get_params()
    assert again.classes_.dtype == clf.classes_.dtype
    np.testing.assert_array_equal(again.predict_proba(Q), clf.predict_proba(Q))
    np.testing.assert_array_equal(again.predict(Q), clf.predict(Q))
    np.testing.assert_array_equal(
        again.partial_fit(X[1::2], y[1::2]).logits(Q), clf.partial_fit(X[1::2], y[1::2]).logits(Q)
    )
    again.save(tmp_path / "twice.safetensors")
    clf.save(tmp_path / "clf.safetensors")
    assert (tmp_path / "twice.safetensors").read_bytes() == (tmp_path / "clf.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("method", "old"), [("gda", "full"), ("timo", "few"), ("project-and-mix", "none"), ("lda", "given")]
)
def test_files_of_earlier_versions(problem: Problem, method: str, old: str, tmp_path: Path) -> None:
    """They call alpha ensemble_weight_, keep numbers that LDA does not have, and name the tiers otherwise."""
    X, y, T, Q = problem
    clf = CLASSIFIERS[method]().fit(X, y, text=T)
    clf.save(tmp_path / "clf.safetensors")
    document = read_document(tmp_path / "clf.safetensors", "classifier")
    learned = document.parameters["learned"]
    document.parameters["weight_tier"] = old
    document.parameters["learned"] = {
        "prior_shots_": 0.0, "n_directions_": 0, **learned, "ensemble_weight_": learned.get("alpha_", learned.get("ensemble_weight_", 1.0))
    }  # fmt: skip
    document.parameters["learned"].pop("alpha_", None)
    write_document(tmp_path / "old.safetensors", document)
    again = load_classifier(tmp_path / "old.safetensors")
    np.testing.assert_array_equal(again.logits(Q), clf.logits(Q))
    now = {"none": "leave-one-out", "few": "few-validation", "full": "validation", "given": "given"}
    assert again.weight_tier_ == now[old] and again.weights_ == clf.weights_
    document.parameters["weight_tier"] = "guess"
    write_document(tmp_path / "old.safetensors", document)
    with pytest.raises(FileFormatError, match="'guess'"):
        load_classifier(tmp_path / "old.safetensors")


@pytest.mark.parametrize("method", ["lda", "proto-clip"])
def test_calibration_is_that_of_the_held_out_shots(problem: Problem, method: str) -> None:
    """The temperature has a lower log-loss on validation pictures than its neighbours, up to the doubt of Platt."""
    X, y, T, _ = problem
    rng = np.random.default_rng(9)
    V, v = normalize_rows(np.repeat(X, 30, 0) + 0.3 * rng.normal(size=(600, 12))), np.repeat(y, 30)
    clf = CLASSIFIERS[method](calibrate=True).fit(X, y, text=T, validation=(V, v))
    logits, own = clf.logits(V), (np.arange(600), np.searchsorted(clf.classes_, v))

    def loss(temperature: float) -> float:
        return float(-np.log(softmax(logits / temperature)[own]).mean())

    assert clf.temperature_ != 1.0
    assert loss(clf.temperature_) < min(loss(clf.temperature_ * 0.7), loss(clf.temperature_ / 0.7), loss(1.0))


def test_files_that_are_no_classifier(tmp_path: Path, problem: Problem) -> None:
    (tmp_path / "text").write_text("no")
    with pytest.raises(FileFormatError):
        load_classifier(tmp_path / "text")
    with pytest.raises(NotFittedError):
        ProjectAndMix().save(tmp_path / "x.safetensors")


# ------------------------------------------------------------------------------------------------ probabilities


def test_calibration_and_rejection(problem: Problem) -> None:
    X, y, T, Q = problem
    clf = ProjectAndMix(calibrate=True).fit(X, y, text=T)
    assert clf.temperature_ != 1.0
    np.testing.assert_allclose(clf.predict_proba(Q), softmax(clf.logits(Q) / clf.temperature_), atol=1e-12)
    threshold = float(np.median(clf.predict_proba(Q).max(1)))
    labels = clf.predict(Q, reject_below=threshold, reject_label="none of these")
    rejected = clf.predict_proba(Q).max(1) < threshold
    assert set(labels[rejected]) == {"none of these"}
    np.testing.assert_array_equal(labels[~rejected], clf.predict(Q)[~rejected])
    assert clf.predict(Q, reject_below=threshold)[rejected].tolist() == [None] * int(rejected.sum())
    with pytest.warns(IsomixWarning, match="calibrate"):
        ProjectAndMix(calibrate=True).fit(X[::4], y[::4], text=T)


def test_binary_decision_function_is_scikit_learns(problem: Problem) -> None:
    X, y, T, Q = problem
    clf = ProjectAndMix().fit(X[:8], y[:8], text=T[:2])
    np.testing.assert_array_equal(clf.decision_function(Q), clf.logits(Q)[:, 1] - clf.logits(Q)[:, 0])


# --------------------------------------------------------------------------------------------------- bad input


def test_bad_input(problem: Problem) -> None:
    X, y, T, Q = problem
    broken = X.copy()
    broken[3, 3] = np.nan
    cases: list[tuple[str, Any]] = [
        ("class", lambda: ProjectAndMix().fit(X[:4], y[:4])),
        (r"rows 0 and 20 .*'ant' and 'elk'", lambda: ProjectAndMix().fit(np.r_[X, X[:1]], [*y, "elk"], text=T)),
        ("width 11, expected 12", lambda: ProjectAndMix().fit(X, y, text=T[:, :11])),
        (r"\(4, 12\), expected \(5, 12\)", lambda: ProjectAndMix().fit(X, y, text=T[:4])),
        ("labels .'gnu'. are not", lambda: read_texts({"gnu": T[0]}, np.unique(y), 12)),
        ("expected embeddings", lambda: ProjectAndMix().fit(X, y, text={"ant": "a photo of an ant"})),
        ("neither text nor pictures.*|.*'fox'", lambda: ProjectAndMix().fit(X, y, text={"fox": None, "ant": T[0]})),
        ("NaN", lambda: ProjectAndMix().fit(np.where(X[3, 3] == X, np.nan, X), y, text=T)),
        ("row 2 is all zeros", lambda: ProjectAndMix().fit(np.where(np.arange(20)[:, None] == 2, 0.0, X), y, text=T)),
        ("span 5 directions", lambda: ProjectAndMix(n_directions=6).fit(X, y, text=T)),
        ("n_directions", lambda: ProjectAndMix(n_directions=-1).fit(X, y, text=T)),
        ("untrusted_texts", lambda: ProjectAndMix(untrusted_texts=-1).fit(X, y, text=T)),
        ("untrusted_texts", lambda: MixedPrototypes(untrusted_texts=0.5).fit(X, y, text=T)),  # type: ignore[arg-type]
        ("mixing_weight", lambda: MixedPrototypes(1.5).fit(X, y, text=T)),
        ("no text to mix", lambda: MixedPrototypes(0.5).fit(X, y)),
        ("ensemble_weight", lambda: ProjectAndMix(ensemble_weight=-1).fit(X, y, text=T)),
        ("logit_scale", lambda: ProjectAndMix(logit_scale=0).fit(X, y, text=T)),
        ("needs text=", lambda: ZeroShot().fit(X, y)),
        ("needs text=", lambda: ZeroShot().fit(X, y, text={"ant": None})),
        ("mapping", lambda: ZeroShot().fit(text=T)),
        ("one type", lambda: ProjectAndMix().fit(X, np.repeat(np.arange(5), 4), text={"ant": T[0]})),
        ("20 rows and 19 labels|inconsistent", lambda: ProjectAndMix().fit(X, y[:-1])),
        ("weights of at least 0|Negative", lambda: ProjectAndMix().fit(X, y, sample_weight=-np.ones(20))),
        ("11 features|width", lambda: ProjectAndMix().fit(X, y).predict(Q[:, :11])),
        ("row 7", lambda: ProjectAndMix().fit(X, y).predict(np.where(np.arange(50)[:, None] == 7, np.nan, Q))),
        ("space", lambda: ProjectAndMix(space="iso").fit(X, y, text=T)),
        ("space", lambda: ProjectAndMix(space=TextPCA).fit(X, y, text=T)),
        ("one string or integer.*a row", lambda: ProjectAndMix().fit(X, [None, *y[1:]], text=T)),
        ("row 3.*encode them again", lambda: ProjectAndMix().fit(broken, y, text=T)),
        ("NaN", lambda: ProjectAndMix().fit(X, y, text=T).partial_fit(broken, y)),
        ("row 3.*encode them again", lambda: ProjectAndMix().fit(X, y, text=T, validation=(broken, y))),
        ("two arrays", lambda: ProjectAndMix().fit(X, y, text=T, validation=X)),
        ("one label a row", lambda: ProjectAndMix().fit(X, y, text=T, validation=(X, y[:-1]))),
        ("Encode the sentences first", lambda: ProjectAndMix().fit(X, y, text=["ant", "bee", "cow", "dog", "elk"])),
        ("expected a list of labels", lambda: ProjectAndMix().fit(X, y).partial_fit(X[:1], ["fox"], classes="fox")),
        ("from 0 to 1", lambda: MixedPrototypes(True).fit(X, y, text=T)),
        ("positive", lambda: ProjectAndMix(logit_scale="hot").fit(X, y, text=T)),  # type: ignore[arg-type]
        ("reject_below", lambda: ProjectAndMix().fit(X, y).predict(Q, reject_below=np.nan)),
        ("reject_below", lambda: ProjectAndMix().fit(X, y).predict(Q, reject_below="high")),  # type: ignore[arg-type]
    ]
    for message, call in cases:
        with pytest.raises(InputError, match=message):
            call()


def test_notes_are_warnings(problem: Problem) -> None:
    X, y, T, Q = problem
    with pytest.warns(IsomixWarning, match="scaled to length 1"):
        scaled = ProjectAndMix(0.2, 3, 0.0).fit(3 * X, y, text=T)
    np.testing.assert_allclose(scaled.logits(5 * Q), ProjectAndMix(0.2, 3, 0.0).fit(X, y, text=T).logits(Q))
    same = T.copy()
    same[3] = same[1]
    with pytest.warns(IsomixWarning, match="'bee' and 'dog' have identical text"):
        ZeroShot().fit(X, y, text=same)
    with pytest.warns(IsomixWarning, match="identity"):
        LDA().fit(X[::4], y[::4])
    with pytest.warns(IsomixWarning, match="discriminant is left out"):
        ProjectAndMix(ensemble_weight=1.0).fit(X[::4], y[::4], text=T)


def test_a_picture_given_twice_is_one_shot_of_weight_two(problem: Problem) -> None:
    X, y, T, Q = problem
    twice = ProjectAndMix().fit(np.r_[X, X[:1]], [*y, y[0]], text=T)
    weight = np.ones(20)
    weight[0] = 2
    np.testing.assert_allclose(twice.logits(Q), ProjectAndMix().fit(X, y, text=T, sample_weight=weight).logits(Q))


def test_a_space_inside_moves_the_discriminant_only(problem: Problem) -> None:
    X, y, T, Q = problem
    space = TextPCA(n_components=6).fit(np.random.default_rng(0).normal(size=(40, 12)))
    clf = ProjectAndMix(0.3, 3, 0.5, shrinkage=0.3, space=space).fit(X, y, text=T)
    lda = LDA(shrinkage=0.3).fit(space.transform(X), y)
    expected = TextAlignedPrototypes(0.3, 3).fit(X, y, text=T).logits(Q) + 0.5 * lda.logits(space.transform(Q))
    np.testing.assert_allclose(clf.logits(Q), expected, rtol=1e-9)
    part = ProjectAndMix(0.3, 3, 0.5, shrinkage=0.3, space=space).fit(X[::2], y[::2], text=T)
    np.testing.assert_allclose(part.partial_fit(X[1::2], y[1::2]).logits(Q), clf.logits(Q), atol=1e-9)
    assert ProjectAndMix(space=space).fit(X, y, text=T).weight_tier_ == "leave-one-out"


def test_a_space_is_saved_inside(problem: Problem, tmp_path: Path) -> None:
    X, y, T, Q = problem
    space = TextPCA(n_components=6).fit(np.random.default_rng(0).normal(size=(40, 12)))
    clf = ProjectAndMix(space=space).fit(X[::2], y[::2], text=T)
    clf.save(tmp_path / "clf.safetensors")
    again = load_classifier(tmp_path / "clf.safetensors")
    assert isinstance(again, ProjectAndMix) and isinstance(again.space, TextPCA)
    np.testing.assert_array_equal(again.logits(Q), clf.logits(Q))
    np.testing.assert_array_equal(
        again.partial_fit(X[1::2], y[1::2]).logits(Q), clf.partial_fit(X[1::2], y[1::2]).logits(Q)
    )
    foreign = ProjectAndMix(space=PCA(6).fit(X)).fit(X, y, text=T)
    with pytest.raises(InputError, match="PCA cannot be saved"):
        foreign.save(tmp_path / "foreign.safetensors")
    document = read_document(tmp_path / "clf.safetensors", "classifier")
    del document.tensors["space.moment_means"]
    write_document(tmp_path / "cut.safetensors", document)
    with pytest.raises(FileFormatError, match="moment_means"):
        load_classifier(tmp_path / "cut.safetensors")
