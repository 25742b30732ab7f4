"""The verbs spectrum and doctor."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import scipy.linalg

from isomix.encoders import load_encoder
from isomix.encoders.prompts import nouns
from isomix.projectors import Projectors
from isomix.projectors.model_spec import SHORT_NAMES
from isomix.spaces import IsoCLIP
from isomix.spaces.spectrum import direction_shares, effective_rank, random_projectors, spectrum


def test_spectrum_prints_numbers_and_a_plot(cli):
    result = cli("spectrum", "embedded")
    assert result.code == 0
    assert "rank               192" in result.out
    assert "preset for image   0/72   (cuts the 0 largest and 72 smallest of 192 directions)" in result.out
    assert "suggested band     0/0" in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_spectrum_json_is_the_spectrum(cli):
    printed = json.loads(cli("spectrum", "embedded:as-trained", "--json").out)
    described = spectrum(Projectors.from_pretrained("embedded:as-trained"))
    np.testing.assert_allclose(printed["singular_values"], described.singular_values)
    assert printed["preset"] == {}


def test_spectrum_with_embeddings(cli, pictures, tmp_path):
    encoder = load_encoder("embedded")
    E = encoder.encode_image(sorted((pictures / "icons").glob("*/*.png")), show_progress_bar=False).embeddings
    T = encoder.encode_text(nouns(), show_progress_bar=False).embeddings
    np.save(tmp_path / "images.npy", E)
    np.save(tmp_path / "texts.npy", T)
    result = cli("spectrum", "embedded", "--images", tmp_path / "images.npy", "--texts", tmp_path / "texts.npy")
    assert result.code == 0
    assert "nothing stands out in the spectrum" in " ".join(result.out.split())
    assert "text common" in result.out
    assert max(map(len, result.out.splitlines())) <= 80
    printed = json.loads(cli("spectrum", "embedded", "--images", tmp_path / "images.npy", "--json").out)
    iso = IsoCLIP(encoder.projectors, band="auto").fit(E)
    assert (printed["suggested"]["k_top"], printed["suggested"]["k_bottom"]) == iso.band_
    assert sum(printed["shares"]["image"]["variance"]) == pytest.approx(1)
    assert cli("spectrum", "embedded", "--images", tmp_path / "nothing.npy").code == 1


def test_direction_shares_by_hand(rng):
    """With orthonormal projectors the coordinates are the embeddings themselves, rotated."""
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    pair = Projectors(np.diag([6.0, 5, 4, 3, 2, 1]) @ Q, Q)
    E = rng.normal(size=(50, 6))
    E[:, 0] += 3
    E /= np.linalg.norm(E, axis=1, keepdims=True)
    shares = direction_shares(pair, E)
    np.testing.assert_allclose(shares.variance, E.var(0) / E.var(0).sum(), atol=1e-12)
    np.testing.assert_allclose(shares.common, E.mean(0) ** 2 / (E**2).sum() * len(E), atol=1e-12)


def test_spectrum_plot(cli, tmp_path):
    assert cli("spectrum", "embedded", "--plot", tmp_path / "s.svg").code == 0
    assert (tmp_path / "s.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert cli("spectrum", "embedded", "--plot", tmp_path / "s.svg").code == 2


def test_spectrum_of_nothing(cli, tmp_path):
    assert cli("spectrum", tmp_path / "nothing").code == 1
    assert cli("spectrum").code == 2


def test_spectrum_numbers(rng):
    pair = Projectors(rng.normal(size=(20, 30)), rng.normal(size=(20, 25)))
    control = random_projectors(pair)
    assert control.image.shape == pair.image.shape
    assert np.linalg.norm(control.image) == pytest.approx(np.linalg.norm(pair.image))
    described = spectrum(pair)
    S = np.linalg.svd(pair.image.T @ pair.text, compute_uv=False)[:20]
    assert described.condition == pytest.approx(S[0] / S[-1])
    assert 1 < described.effective_rank < 20
    assert effective_rank(np.array([1.0, 0.0])) == 1.0


def test_doctor_finds_nothing_broken(cli):
    result = cli("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(result.out)}
    assert findings["embedded model"]["status"] == "ok"
    assert result.code == 0


def test_doctor_lists_the_short_names_of_models(cli):
    found = {finding["what"]: finding for finding in json.loads(cli("doctor", "--json").out)}
    for short, full in SHORT_NAMES.items():
        assert re.search(f"^{short} +{full}$", found["short names"]["detail"], re.M)


def test_doctor_finds_a_broken_package(cli, tmp_path, monkeypatch):
    """A torchvision built for another torch: installed by name, broken at import."""
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    info = tmp_path / "torchvision-0.99.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.99\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = cli("doctor")
    assert result.code == 1
    assert "pip uninstall torchvision" in " ".join(result.out.split())


def test_version_and_help(cli):
    assert cli("--version").out.startswith("isomix 0.")
    assert "classify" in cli("--help").out


def test_a_spectrum_is_that_of_the_space_biases_included(rng):
    pair = Projectors(
        rng.normal(size=(6, 9)), rng.normal(size=(6, 5)), image_bias=rng.normal(size=6), text_bias=rng.normal(size=6)
    )
    space = IsoCLIP(pair, band=(1, 1)).fit()
    np.testing.assert_array_equal(spectrum(pair).singular_values, space.singular_values_)
    assert spectrum(pair).rank == space.rank_ == 6
    assert [weight.shape for weight in (random_projectors(pair).image, random_projectors(pair).text)] == [
        (6, 10),
        (6, 6),
    ]


def test_the_operator_is_decomposed_once(cli, tmp_path, rng, monkeypatch):
    """With shares of both modalities and a suggested band: one decomposition of the model, one of the control."""
    decomposed = []
    original = scipy.linalg.svd
    monkeypatch.setattr(
        scipy.linalg, "svd", lambda *given, **options: decomposed.append(1) or original(*given, **options)
    )
    for name in ("images", "texts"):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(60, 192)).astype(np.float32))
    sources = ["--images", str(tmp_path / "images.npy"), "--texts", str(tmp_path / "texts.npy")]
    result = cli("spectrum", "embedded", *sources, "--json")
    assert result.code == 0
    found = json.loads(result.out)
    assert set(found["shares"]) == {"image", "text"}
    assert len(decomposed) == 2
    evidence = IsoCLIP(Projectors.from_pretrained("embedded"), band="auto").fit(np.load(tmp_path / "images.npy"))
    assert (found["suggested"]["k_top"], found["suggested"]["k_bottom"]) == evidence.band_
    assert found["suggested"]["from"] == evidence.band_source_
