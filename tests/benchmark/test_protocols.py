"""The protocols on arrays, against the same figures computed by hand; and the methods by name."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from isomix.benchmark.backbone import Backbone
from isomix.benchmark.banks import Bank
from isomix.benchmark.latency import measure_latency
from isomix.benchmark.methods import METHODS, reads_bank, uses_gallery
from isomix.benchmark.protocols import few_shot, fit_on, nearest_class_mean, retrieval, sides, zero_shot
from isomix.benchmark.samples import Samples, Vectors
from isomix.benchmark.shots import draw_shots, few_shot_split
from isomix.errors import FingerprintMismatchError, InputError, IsomixWarning, ModelError
from isomix.fewshot import CLASSIFIERS, ProjectAndMix
from isomix.linalg import normalize_rows
from isomix.metrics import retrieval_metrics, revisited_metrics
from isomix.neighbors import Smoothing
from isomix.projectors import Projectors
from isomix.spaces import IsoCLIP, NestedTextPCA, TextPCA

SPLITS = np.array(["train", "val", "test", "train", "test"] * 36)


@pytest.fixture
def backbone() -> Backbone:
    return Backbone("embedded")


@pytest.fixture
def samples(rng: np.random.Generator, backbone: Backbone) -> Samples:
    """Noisy features of 6 classes in front of the embedded model's projector."""
    labels = np.arange(180) % 6
    centres = rng.normal(size=(6, backbone.projectors.image.shape[1]))
    H = (centres[labels] + 2.5 * rng.normal(size=(180, centres.shape[1]))).astype(np.float32)
    E = normalize_rows(backbone.projectors.project_image(H))
    text = normalize_rows(backbone.projectors.project_image(centres.astype(np.float32)))[:, None]
    names = tuple("abcdef")
    return Samples("toy", Vectors(E, H), labels, SPLITS, names, "test", "train", text=text)


def no_bank() -> Bank:
    raise AssertionError("no method but text-pca and isoclip:auto needs a bank")


def test_retrieval_searches_the_gallery_split(samples: Samples, backbone: Backbone) -> None:
    chosen = sides(samples)
    fitted = fit_on(samples, chosen.gallery, "isoclip:4/32", backbone, no_bank)
    found = retrieval(samples, fitted)
    Z = IsoCLIP(backbone.projectors, band=(4, 32)).fit().transform_features(samples.vectors.features)
    test, train = SPLITS == "test", SPLITS == "train"
    wanted = retrieval_metrics(Z[test], samples.labels[test], Z[train], samples.labels[train])
    assert found.metrics["mean_average_precision"] == pytest.approx(wanted["mean_average_precision"], abs=1e-9)
    assert found.metrics["n_queries"] == test.sum()
    assert found.details == {"n_gallery": int(train.sum()), "all_against_all": False}


def test_all_against_all_never_finds_the_query(samples: Samples, backbone: Backbone) -> None:
    everything = replace(samples, query_split="", gallery_split="")
    fitted = fit_on(everything, sides(everything).gallery, "plain", None, no_bank)
    wanted = retrieval_metrics(samples.vectors.embeddings, samples.labels)
    found = retrieval(everything, fitted).metrics
    assert found["mean_average_precision"] == wanted["mean_average_precision"]
    # A method that turns the queries only: still without the query itself.
    turned = replace(fitted, queries=lambda vectors: fitted.gallery(vectors) * np.float32(1.0))
    assert retrieval(everything, turned).metrics["recall_at_1"] == wanted["recall_at_1"]


def test_smoothing_after_a_space(samples: Samples, backbone: Backbone) -> None:
    H, labels = samples.vectors.features, samples.labels
    H = H + 3 * np.stack([H[labels == c].mean(axis=0) for c in range(6)])[labels]  # clearer classes
    samples = replace(samples, vectors=Vectors(normalize_rows(backbone.projectors.project_image(H)), H))
    chosen = sides(samples)
    Z = IsoCLIP(backbone.projectors, band=(4, 32)).fit().transform_features(samples.vectors.features)
    test, train = SPLITS == "test", SPLITS == "train"
    S = Smoothing().fit(Z[train])
    assert S.strength_ > 0.1
    for spec, queries in (("+smoothing", Z[test]), ("+smoothing+expansion", S.transform(Z[test]))):
        found = retrieval(samples, fit_on(samples, chosen.gallery, f"isoclip:4/32{spec}", backbone, no_bank))
        wanted = retrieval_metrics(queries, samples.labels[test], S.gallery_, samples.labels[train])
        assert found.metrics["mean_average_precision"] == pytest.approx(wanted["mean_average_precision"], abs=1e-9)
        assert found.details["uses"] == "gallery"


def test_smoothing_all_against_all_leaves_the_query_out(samples: Samples) -> None:
    everything = replace(samples, query_split="", gallery_split="")
    fitted = fit_on(everything, sides(everything).gallery, "plain+smoothing+expansion", None, no_bank)
    wanted = retrieval_metrics(samples.vectors.embeddings, samples.labels, smoothing=Smoothing(), expand=True)
    assert retrieval(everything, fitted).metrics["recall_at_1"] == wanted["recall_at_1"]
    turned = replace(fitted, queries=lambda vectors: fitted.gallery(vectors) * np.float32(1.0))
    with pytest.raises(InputError, match="would smooth the others"):
        retrieval(everything, turned)


def test_what_may_follow_a_method_and_what_uses_the_gallery(samples: Samples) -> None:
    rows = sides(samples).gallery
    for spec in ("plain+expansion", "plain+smooth", "plain+", "plain+smoothing+smoothing"):
        with pytest.raises(InputError, match=r"expected 'plain', 'plain\+smoothing'"):
            fit_on(samples, rows, spec, None, no_bank)
    with pytest.raises(InputError, match="class means search none"):
        nearest_class_mean(samples, fit_on(samples, rows, "plain+smoothing", None, no_bank), None)
    seeing = ["plain+smoothing", "pca-whitening:8", "text-pca:auto", "isoclip:auto+smoothing+expansion"]
    alone = ["plain", "isoclip", "isoclip:4/32", "text-pca:16", "text-pca-cliff", "nested-text-pca"]
    assert [spec for spec in (*seeing, *alone) if uses_gallery(spec)] == seeing
    assert reads_bank("text-pca:auto+smoothing") and not reads_bank("isoclip+smoothing")


def test_remove_self_needs_the_same_rows(samples: Samples) -> None:
    E = samples.vectors.embeddings
    with pytest.raises(InputError, match="remove_self: got 4 queries and 180 gallery rows"):
        retrieval_metrics(E[:4], samples.labels[:4], E, samples.labels, remove_self=True)


@pytest.mark.parametrize(
    "spec",
    [
        "plain", "isoclip", "isoclip:4/32", "isoclip:auto", "text-pca", "text-pca:20", "text-pca:auto", "text-pca-cliff",
        "text-pca-cliff:auto", "nested-text-pca", "nested-text-pca:8,16+smoothing", "pca-whitening",
    ],
)  # fmt: skip
def test_a_run_is_known_by_its_bank_if_the_method_reads_it(
    samples: Samples, backbone: Backbone, rng: np.random.Generator, spec: str
) -> None:
    read = []

    def bank() -> Bank:
        read.append(spec)
        return Bank("toy bank", rng.normal(size=(300, 192)))

    fit_on(samples, sides(samples).gallery, spec, backbone, bank)
    assert bool(read) == reads_bank(spec)


def test_methods_see_the_gallery_and_the_bank_alone(
    samples: Samples, backbone: Backbone, rng: np.random.Generator
) -> None:
    bank = Bank("toy bank", rng.normal(size=(300, 192)))
    fitted = fit_on(samples, sides(samples).gallery, "text-pca:20", None, lambda: bank)
    wanted = TextPCA(20).fit(bank.embeddings).transform(samples.vectors.embeddings)
    np.testing.assert_array_equal(fitted.gallery(samples.vectors), wanted)
    assert (fitted.description["bank"], fitted.description["bank_size"]) == ("toy bank", 300)
    changed = replace(samples, vectors=Vectors(samples.vectors.embeddings.copy(), samples.vectors.features))
    changed.vectors.embeddings[SPLITS == "test"] = 1.0
    for spec in ("pca-whitening:8", "isoclip:auto", "text-pca:auto", "zca-whitening:8"):
        given = (lambda: bank) if reads_bank(spec) else no_bank
        before, after = (fit_on(e, sides(e).gallery, spec, backbone, given).description for e in (samples, changed))
        assert before == after, "queries play no part in the fit"


def test_text_pca_behind_the_cliff(samples: Samples, rng: np.random.Generator) -> None:
    left, right = (np.linalg.qr(rng.normal(size=(192, 192)))[0] for _ in range(2))
    S = np.r_[np.linspace(4, 3, 180), np.linspace(1.5, 0.1, 12)]
    bank = Bank("toy bank", rng.normal(size=(300, 192)) * S @ left.T)
    clip = Backbone("hf:some/clip")
    clip.__dict__["projectors"] = Projectors(text=(left * S) @ right.T)
    fitted = fit_on(samples, sides(samples).gallery, "text-pca-cliff", clip, lambda: bank)
    wanted = TextPCA(projectors=clip.projectors).fit(bank.embeddings)
    np.testing.assert_array_equal(fitted.gallery(samples.vectors), wanted.transform(samples.vectors.embeddings))
    assert (fitted.description["cliff"], fitted.description["n_components"]) == (12, 60)
    counted = fit_on(samples, sides(samples).gallery, "text-pca-cliff:9", clip, lambda: bank)
    assert counted.description["n_components"] == 9
    with pytest.raises(InputError, match="name it with --model"):
        fit_on(samples, sides(samples).gallery, "text-pca-cliff", None, lambda: bank)


def test_nested_text_pca(samples: Samples, backbone: Backbone, rng: np.random.Generator) -> None:
    bank = Bank("toy bank", rng.normal(size=(300, 192)))
    rows = sides(samples).gallery
    fitted = fit_on(samples, rows, "nested-text-pca", None, lambda: bank)
    wanted = NestedTextPCA().fit(bank.embeddings).transform(samples.vectors.embeddings)
    np.testing.assert_array_equal(fitted.gallery(samples.vectors), wanted)
    assert (fitted.description["n_components"], fitted.description["bank"]) == (96, "toy bank")
    assert fit_on(samples, rows, "nested-text-pca:8,16", backbone, lambda: bank).description["n_components"] == 16
    for wrong in ("auto", "8,", "8;16"):
        with pytest.raises(InputError, match="expected numbers of components"):
            fit_on(samples, rows, f"nested-text-pca:{wrong}", None, lambda: bank)


def test_controls_of_isoclip(samples: Samples, backbone: Backbone, tmp_path: Path) -> None:
    bare = replace(samples, vectors=Vectors(samples.vectors.embeddings, None))
    backbone.projectors.text_only().save(tmp_path / "text.safetensors")
    alone = Backbone(str(tmp_path / "text.safetensors"))
    fitted = {
        spec: fit_on(bare, sides(bare).gallery, spec, alone, no_bank)
        for spec in ("isoclip:4/32", "isoclip-control:4/32", "random-directions:4/32", "random-directions:156")
    }
    vectors = {spec: method.gallery(bare.vectors) for spec, method in fitted.items()}
    assert {Z.shape for Z in vectors.values()} == {(180, 156)}
    assert fitted["isoclip:4/32"].description["parameters"]["form"] == "text projector alone"
    np.testing.assert_array_equal(vectors["random-directions:4/32"], vectors["random-directions:156"])
    gram = {spec: Z @ Z.T for spec, Z in vectors.items()}
    assert np.abs(gram["isoclip:4/32"] - gram["isoclip-control:4/32"]).max() > 0.01
    exact = fit_on(samples, sides(samples).gallery, "isoclip-control:4/32", backbone, no_bank)
    assert exact.description["parameters"]["form"] == "exact"


def test_a_head_with_a_bias_and_stored_embeddings_take_the_text_projector(
    samples: Samples, rng: np.random.Generator
) -> None:
    bare = replace(samples, vectors=Vectors(samples.vectors.embeddings, None))
    biased = Backbone("hf:some/siglip")
    pair = Projectors(rng.normal(size=(192, 192)), rng.normal(size=(192, 64)), image_bias=np.ones(192))
    biased.__dict__["projectors"] = pair
    fitted = fit_on(bare, sides(bare).gallery, "isoclip:4/8", biased, no_bank)
    assert fitted.description["parameters"]["form"] == "text projector alone"
    wanted = IsoCLIP(pair.text_only(), (4, 8)).fit().transform(bare.vectors.embeddings)
    np.testing.assert_array_equal(fitted.gallery(bare.vectors), wanted)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("magic", "method: got 'magic', expected one of plain"),
        ("plain:3", "it takes no argument"),
        ("isoclip:high", "no preset band for the backbone 'high'"),
        ("text-pca:half", "expected a number of components"),
        ("isoclip:100/150", "rank"),
        ("ovi", "ovi turns text queries, and these are image queries"),
    ],
)
def test_bad_methods(samples: Samples, backbone: Backbone, spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_on(samples, sides(samples).gallery, spec, backbone, lambda: Bank("toy", np.eye(192)))


def test_what_a_method_needs_is_named(samples: Samples, backbone: Backbone) -> None:
    bare = replace(samples, vectors=Vectors(samples.vectors.embeddings, None))
    with pytest.raises(InputError, match="needs pre-projection features"):
        fit_on(bare, sides(bare).gallery, "pre-projection", backbone, no_bank)
    with pytest.raises(InputError, match="name it with --model"):
        fit_on(bare, sides(bare).gallery, "isoclip", None, no_bank)
    with pytest.raises(ModelError, match="Modality inversion needs"):
        fit_on(samples, sides(samples).gallery, "oti", backbone, no_bank)
    other = Backbone("embedded", made_with="f" * 64)
    with pytest.raises(FingerprintMismatchError, match="name the model that made it"):
        fit_on(samples, sides(samples).gallery, "isoclip", other, no_bank)


def test_landmarks_use_the_revisited_protocol(rng: np.random.Generator) -> None:
    E = normalize_rows(rng.normal(size=(12, 5)))
    truth = tuple({"easy": np.array([i]), "hard": np.array([i + 1]), "junk": np.array([i + 2])} for i in range(3))
    splits = np.array(["query"] * 3 + ["gallery"] * 9)
    marks = Samples("marks", Vectors(E, None), np.full(12, -1), splits, (), "query", "gallery", ground_truth=truth)
    found = retrieval(marks, fit_on(marks, sides(marks).gallery, "plain", None, no_bank)).metrics
    wanted = revisited_metrics(E[:3] @ E[3:].T, truth)
    assert found["mean_average_precision"] == pytest.approx(wanted["easy"]["mean_average_precision"])
    assert found["mean_average_precision_hard"] == pytest.approx(wanted["hard"]["mean_average_precision"])


def test_nearest_class_mean_averages_unnormalised_features(samples: Samples, backbone: Backbone) -> None:
    H, y = samples.vectors.features, samples.labels
    train, test = SPLITS == "train", SPLITS == "test"
    space = IsoCLIP(backbone.projectors).fit()
    means = np.stack([H[train & (y == c)].mean(0) for c in range(6)])
    predicted = (space.transform_features(H[test]) @ space.transform_features(means).T).argmax(1)
    found = nearest_class_mean(samples, fit_on(samples, np.flatnonzero(train), "isoclip", backbone, no_bank), backbone)
    assert found.metrics["accuracy"] == pytest.approx((predicted == y[test]).mean())
    assert 0.5 < found.metrics["accuracy"] < 1
    assert found.details["means_of"] == "pre-projection features"
    bare = replace(samples, vectors=Vectors(samples.vectors.embeddings, None))
    fitted = fit_on(bare, np.flatnonzero(train), "plain", None, no_bank)
    assert nearest_class_mean(bare, fitted, None).details["means_of"] == "unit embeddings"


def test_few_shot_fits_on_the_published_draw(samples: Samples) -> None:
    shots, held_out = draw_shots(samples.labels, samples.splits, 4, 1)
    train, val = np.flatnonzero(SPLITS == "train"), np.flatnonzero(SPLITS == "val")
    wanted = few_shot_split(samples.labels[train].tolist(), samples.labels[val].tolist(), 4, 1)
    assert (train[wanted[0]] == shots).all() and (val[wanted[1]] == held_out).all()
    E, y, test = samples.vectors.embeddings, samples.labels, SPLITS == "test"
    found = few_shot(
        samples, "project-and-mix", shots=shots, held_out=held_out[:0], tier="leave-one-out", logit_scale=30.0
    )
    by_hand = ProjectAndMix(logit_scale=30.0).fit(E[shots], y[shots], dict(enumerate(samples.text)))
    assert found.metrics["accuracy"] == (by_hand.predict(E[test]) == y[test]).mean()
    assert found.details["weights"]["mixing_weight"] == by_hand.mixing_weight_
    assert found.details["weights_from"] == "leave-one-out"


@pytest.mark.parametrize("method", CLASSIFIERS)
def test_every_classifier_runs_in_every_tier(samples: Samples, method: str) -> None:
    shots, few = draw_shots(samples.labels, samples.splits, 4, 1)
    tiers = {"leave-one-out": few[:0], "few-validation": few, "validation": np.flatnonzero(SPLITS == "val")}
    for tier, held_out in tiers.items():
        found = few_shot(samples, method, shots=shots, held_out=held_out, tier=tier, logit_scale=30.0)
        assert found.details["n_validation"] == len(held_out)
        assert found.details["weights_from"] in (tier, "given")
        assert found.metrics["accuracy"] > 0.4


@pytest.mark.parametrize("method", CLASSIFIERS)
def test_a_pool_is_named_and_is_the_test_split(samples: Samples, method: str) -> None:
    shots, few = draw_shots(samples.labels, samples.splits, 4, 1)
    call = partial(few_shot, samples, shots=shots, held_out=few[:0], tier="leave-one-out", logit_scale=30.0)
    if not CLASSIFIERS[method].takes_pool:
        with pytest.raises(InputError, match=r"but only gda, mixed-prototypes, .* take unlabelled pictures \(\+pool\)"):
            call(f"{method}+pool")
        return
    found, without = call(f"{method}+pool"), call(method)
    assert found.details["uses"] == "unlabelled pictures" and "uses" not in without.details
    E, y, test = samples.vectors.embeddings, samples.labels, SPLITS == "test"
    by_hand = CLASSIFIERS[method](logit_scale=30.0)
    by_hand.fit(E[shots], y[shots], dict(enumerate(samples.text)), unlabelled=E[test])
    assert found.details["pool"] == by_hand.pool_.explanation()
    assert found.metrics["accuracy"] == (by_hand.predict(E[test]) == y[test]).mean()


def test_zero_shot_reads_the_texts(samples: Samples) -> None:
    test = SPLITS == "test"
    predicted = (samples.vectors.embeddings[test] @ samples.text[:, 0].T).argmax(1)
    assert zero_shot(samples, 30.0).metrics["accuracy"] == (predicted == samples.labels[test]).mean()
    with pytest.raises(InputError, match="needs class texts"):
        zero_shot(replace(samples, text=None), 30.0)


def test_bad_data_is_named(samples: Samples, backbone: Backbone) -> None:
    plain = fit_on(samples, sides(samples).gallery, "plain", None, no_bank)
    with pytest.raises(InputError, match="the gallery has one class only"):
        retrieval(replace(samples, labels=np.where(SPLITS == "train", 0, samples.labels)), plain)
    alone = samples.labels.copy()
    alone[np.flatnonzero(SPLITS == "test")[:2]] = 7
    with pytest.warns(IsomixWarning, match="2 of 72 queries have nothing of their class in the gallery"):
        assert retrieval(replace(samples, labels=alone), plain).metrics["n_skipped"] == 2
    names = tuple("abcdefgh")
    with pytest.raises(InputError, match="1 classes of the test split have no training picture"):
        nearest_class_mean(replace(samples, labels=alone, class_names=names), plain, None)
    without = replace(samples, splits=np.where(SPLITS == "val", "train", SPLITS))
    shots, few = draw_shots(without.labels, without.splits, 1, 1)
    with pytest.raises(InputError, match="tier 'few-validation' chooses weights on a split 'val', and there is none"):
        few_shot(without, "gda", shots=shots, held_out=few, tier="few-validation", logit_scale=30.0)
    with pytest.raises(InputError, match="needs a split 'test', and the rows are in 'all'"):
        few_shot(
            replace(samples, splits=np.full(180, "all")),
            "gda",
            shots=shots,
            held_out=few,
            tier="leave-one-out",
            logit_scale=30.0,
        )


def test_fingerprints_tell_data_apart(samples: Samples) -> None:
    same = replace(samples, vectors=Vectors(samples.vectors.embeddings.copy(), samples.vectors.features))
    assert samples.fingerprint() == same.fingerprint()
    same.vectors.embeddings[3, 3] += 1e-3
    labels = samples.labels.copy()
    labels[0] = 5
    others = (same, replace(samples, labels=labels), replace(samples, text=None), replace(samples, query_split="val"))
    assert len({samples.fingerprint(), *(other.fingerprint() for other in others)}) == 5
    assert samples.fingerprint(np.arange(3)) == same.fingerprint(np.arange(3)) != samples.fingerprint()


def test_latency_counts_calls_and_is_one_for_the_same_work() -> None:
    calls: list[str] = []
    found = measure_latency(lambda: calls.append("a"), lambda: calls.append("b"), repeats=5, warm_up=2)
    assert calls.count("a") == calls.count("b") == 7
    assert found["quartiles_ms"][0] <= found["median_ms"] <= found["quartiles_ms"][1]
    work = np.random.default_rng(0).normal(size=(150, 150))
    twice = measure_latency(lambda: [work @ work for _ in range(20)], lambda: work @ work, repeats=9)
    assert twice["ratio_to_plain"] > 4


def test_every_method_has_a_name_for_the_command_line() -> None:
    assert next(iter(METHODS)) == "plain"
    assert not any(":" in name for name in METHODS)
    assert Projectors.from_pretrained("embedded").fingerprint == Backbone("embedded").fingerprint
