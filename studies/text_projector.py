"""IsoCLIP from the text projector alone, on real ViT-B/32 embeddings: prints the tables of docs/bands.md.

Run it with: make study. Reads ``../shared/data`` beside the checkout and prints one line where that is absent. No image
projector is used: the band is cut from the left singular vectors of the text projector. Intervals are 95 % of a bootstrap
over classes (the gallery stays); those of a gain are paired. ``--only`` prints one part.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isomix import IsoCLIP, Projectors, TextPCA, retrieval_metrics
from isomix.fewshot import LDA, NearestClassMean, ProjectAndMix
from isomix.linalg import normalize_rows
from isomix.metrics import average_precisions, bootstrap_intervals
from isomix.spaces import RandomDirections
from isomix.spaces.band_comparison import band_grid, by_labels, compare
from isomix.spaces.band_selection import cliff_energy
from isomix.spaces.bands import Band
from isomix.spaces.controls import turned_projectors
from isomix.spaces.operator import InterModalOperator
from isomix.spaces.spectrum import cliff

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
BAND = Band(150, 50)
TOPS = (0, 1, 4, 16, 32, 64, 96, 128, 150, 192, 224, 256, 288, 320)
BOTTOMS = (0, 32, 50, 64, 96, 128, 192)
SEEDS = range(5)
SHOTS = (1, 4, 16)
COMPONENTS = 160
SAME_PICTURE = 0.985
# Ranges of ImageNet's class numbers.
GROUPS = {
    "dogs": (210, 269),
    "birds": (7, 25),
    "reptiles": (25, 69),
    "insects": (300, 327),
    "wild animals": (269, 300),
    "crustaceans": (107, 127),
    "plants": (984, 999),
}

Transform = Callable[[Any], Any]


class Task(NamedTuple):
    """Queries against a gallery, or all against all."""

    name: str
    queries: Any
    labels: Any
    gallery: Any = None
    gallery_labels: Any = None

    @property
    def looked_at(self) -> tuple[Any, Any]:
        """What a band may be chosen from, and its labels."""
        return (self.queries, self.labels) if self.gallery is None else (self.gallery, self.gallery_labels)


class Data(NamedTuple):
    """What is beside the checkout; float32 unit rows."""

    caltech: dict[str, Any]
    imagenet: dict[str, Any]
    projectors: Projectors
    foreign: Projectors | None

    @property
    def bank(self) -> Any:
        """Embeddings of "a photo of a ..." for the thousand names of ImageNet."""
        return self.imagenet["text"]

    def tasks(self) -> list[Task]:
        """The whole sets."""
        test, labels = self.caltech["test"], self.caltech["test_labels"]
        sets = (self.imagenet[f"{part}_{k}"] for k in (2, 4) for part in ("images", "labels"))
        return [
            Task("Caltech101, test, all against all", test, labels),
            Task("Caltech101, test against val", test, labels, self.caltech["val"], self.caltech["val_labels"]),
            Task("ImageNet, images_2 against images_4", *sets),
        ]

    def small_tasks(self) -> Iterator[Task]:
        """Classes of one kind, and draws of the classes with odd numbers: sets of the size that people own."""
        E, y = self._distinct()
        for name, (first, end) in GROUPS.items():
            chosen = (first <= y) & (y < end)
            yield Task(name, E[chosen], y[chosen])
        rng = np.random.default_rng(0)
        caltech = self.caltech["test"], self.caltech["test_labels"]
        for name, (X, labels), total in (("ImageNet", (E, y), 1000), ("Caltech101", caltech, 100)):
            for count in (10, 30, 30, 100)[: 4 if total == 1000 else 3]:
                chosen = np.isin(labels, rng.choice(np.arange(1, total, 2), count, replace=False))
                yield Task(f"{count} classes of {name}", X[chosen], labels[chosen])

    def _distinct(self) -> tuple[Any, Any]:
        """All ImageNet pictures but those that come again."""
        E, y = (np.concatenate([self.imagenet[f"{part}_{k}"] for k in (4, 2, 1)]) for part in ("images", "labels"))
        kept: list[int] = []
        for label in np.unique(y):
            mine: list[int] = []
            for i in np.flatnonzero(y == label):
                if not mine or (E[mine] @ E[i]).max() <= SAME_PICTURE:
                    mine.append(i)
            kept += mine
        return E[kept], y[kept]


def precisions(task: Task, transform: Transform) -> Any:
    """Average precision of every query, in per cent."""
    sides = [transform(task.queries), task.labels]
    if task.gallery is not None:
        sides += [transform(task.gallery), task.gallery_labels]
    return 100 * retrieval_metrics(*sides, return_per_query=True)["per_query"]["mean_average_precision"]


def mean(task: Task, transform: Transform) -> float:
    """Mean average precision, in per cent."""
    return float(np.nanmean(precisions(task, transform)))


def cell(values: Any, labels: Any, signed: bool = False) -> str:
    """Mean and its interval over classes."""
    finite = np.isfinite(values)
    codes = np.unique(labels[finite], return_inverse=True)[1]
    sums, counts = np.bincount(codes, values[finite]), np.bincount(codes).astype(float)
    low, high = bootstrap_intervals(
        lambda weights: np.array([weights @ sums / (weights @ counts)]), len(sums), n_resamples=2000, seed=0
    )[0]
    sign = "+" if signed else ""
    return f"{np.nanmean(values):{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"


def line(cells: Any) -> None:
    """One row of a Markdown table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def header(title: str, cells: list[Any]) -> None:
    """Title and first rows of a Markdown table."""
    print(f"\n{title}\n")
    line(cells)
    line(["---"] * len(cells))


def band_of(projectors: Projectors, band: Any = BAND) -> Transform:
    """The map of a band."""
    return IsoCLIP(projectors, tuple(band)).fit().transform


def main_table(data: Data) -> None:
    """Plain, the band, and the controls."""
    isoclip = band_of(data.projectors)
    turned = [band_of(turned_projectors(data.projectors, seed)) for seed in SEEDS]
    width = data.projectors.embedding_dim
    kept = width - sum(BAND)
    random = [RandomDirections(kept, seed=seed).fit(data.bank).transform for seed in SEEDS]
    transposed = band_of(data.projectors.replace(text=data.projectors.text.T))
    header(
        f"Band {BAND} of the text projector: mAP; accuracy for the nearest class mean ({len(SEEDS)} seeds of each control)",
        ["", "plain", "isoclip", "gain", "isoclip-control", f"random-directions:{kept}", "transposed projector"],
    )
    rows: list[tuple[str, Any, Callable[[Transform], Any]]] = [
        (task.name, task.labels, lambda move, task=task: precisions(task, move)) for task in data.tasks()
    ]
    for shots in SHOTS:
        name = f"nearest class mean, Caltech101, {shots} shot{'s' * (shots > 1)}"
        rows.append((name, data.caltech["test_labels"], lambda move, shots=shots: hits(data.caltech, shots, move)))
    for name, labels, values in rows:
        plain, found = values(normalize_rows), values(isoclip)
        controls = [[float(np.nanmean(values(move))) for move in moves] for moves in (turned, random)]
        line(
            [
                name,
                cell(plain, labels),
                cell(found, labels),
                cell(found - plain, labels, signed=True),
                *(f"{min(means):.1f} to {max(means):.1f}" for means in controls),
                f"{np.nanmean(values(transposed)):.1f}",
            ]
        )


def hits(caltech: Any, shots: int, move: Transform, kind: Any = NearestClassMean) -> Any:
    """100 for every test picture that a classifier gets right, else 0."""
    clf = kind().fit(move(caltech[f"train_{shots}shots"]), caltech[f"train_{shots}shots_labels"])
    return 100.0 * (clf.predict(move(caltech["test"])) == caltech["test_labels"])


def grid_of(task: Task, operator: InterModalOperator, bands: list[Band], most: int = 500) -> dict[Band, float]:
    """Mean average precision of every band, in per cent; ``most`` queries."""
    order = np.random.default_rng(0).permutation(len(task.queries))
    queries = order[:most]
    count, F = len(queries), operator.projected("image")
    if task.gallery is None:
        rows, labels = task.queries[order], task.labels[order]
        criterion = by_labels(labels)
    else:
        rows = np.concatenate([task.queries[queries], task.gallery])
        labels = np.concatenate([task.labels[queries], task.gallery_labels])

        def criterion(similarities: Any, block: slice) -> Any:
            return average_precisions(similarities[:, count:], labels[block, None] == labels[count:])

    values = compare(operator.coordinates(rows, "image"), F.T @ F, bands, count, criterion)
    return {band: float(100 * np.nanmean(scored)) for band, scored in values.items()}


def grid_table(data: Data) -> dict[str, dict[Band, float]]:
    """Gain over plain of every band, mean over the tasks."""
    operator = InterModalOperator(data.projectors)
    bands = [Band(t, b) for t in TOPS for b in BOTTOMS if operator.rank - t - b >= operator.rank // 16]
    scores = {task.name: grid_of(task, operator, bands) for task in data.tasks()}
    header("The grid: gain of mAP over plain, mean over the three tasks (rows k_top, columns k_bottom)", ["", *BOTTOMS])
    for top in TOPS:
        gains = [
            [found[Band(top, bottom)] - found[Band(0, 0)] for found in scores.values() if Band(top, bottom) in found]
            for bottom in BOTTOMS
        ]
        line([top, *(f"{np.mean(gain):+.1f}" if gain else "" for gain in gains)])
    return scores


def automatic(projectors: Projectors, task: Task, bank: Any) -> dict[str, Band]:
    """The band that each way chooses."""
    E, labels = task.looked_at
    given: dict[str, dict[str, Any]] = {
        "spectrum": {},
        "embeddings": {"X": E},
        "sentences": {"X": E, "bank": bank},
        "labels": {"X": E, "y": labels},
    }
    return {way: IsoCLIP(projectors, "auto").fit(**arguments).band_ for way, arguments in given.items()}


def rules_table(data: Data, grids: dict[str, dict[Band, float]]) -> None:
    """What each way of choosing finds, beside the best of the grid (the best of 500 queries, judged on all)."""
    ways = ["spectrum", "embeddings", "sentences", "labels"]
    control = turned_projectors(data.projectors)
    header(
        "Automatic bands on the whole sets: mAP (k_top/k_bottom); in the last column from the gallery and a turned projector",
        ["", "plain", "best of the grid", *(f"auto: {way}" for way in ways), "auto: embeddings, control"],
    )
    for task in data.tasks():
        chosen = automatic(data.projectors, task, data.bank)
        best = max(grids[task.name], key=grids[task.name].__getitem__)
        cut = IsoCLIP(control, "auto").fit(task.looked_at[0]).band_
        scored = {
            band: f"{mean(task, band_of(data.projectors, band)):.1f} ({band})" for band in {best, *chosen.values()}
        }
        line(
            [
                task.name,
                f"{mean(task, normalize_rows):.1f}",
                scored[best],
                *(scored[chosen[way]] for way in ways),
                f"{mean(task, band_of(control, cut)):.1f} ({cut})",
            ]
        )


def losses_table(data: Data) -> None:
    """How much each way loses to the best of the grid on small sets."""
    operator = InterModalOperator(data.projectors)
    bands = band_grid(operator.rank, BAND)
    lost: dict[str, list[float]] = {}
    tasks, gains, controls = list(data.small_tasks()), [], []
    for task in tasks:
        scores = grid_of(task, operator, bands)
        best = max(scores.values())
        chosen = {"plain": Band(0, 0), **automatic(data.projectors, task, data.bank)}
        for way, band in chosen.items():
            lost.setdefault(way, []).append(best - scores[band])
        gains.append(min(scores[band] for band in chosen.values() if band != Band(0, 0)) - scores[Band(0, 0)])
        controls.append(IsoCLIP(turned_projectors(data.projectors), "auto").fit(task.queries).band_)
    header(
        f"Automatic bands on {len(tasks)} small sets ({min(len(t.labels) for t in tasks)} to "
        f"{max(len(t.labels) for t in tasks)} pictures): what is lost to the best of the grid, mAP",
        ["", "mean", "largest", "sets over 1.0", "sets over 1.5"],
    )
    for way, found in lost.items():
        values = np.array(found)
        name = way if way == "plain" else f"auto: {way}"
        line([name, f"{values.mean():.2f}", f"{values.max():.2f}", (values > 1.0).sum(), (values > 1.5).sum()])
    cut = sum(band != Band(0, 0) for band in controls)
    print(f"\nSmallest gain of any of them over plain: {min(gains):+.2f}. A turned projector is cut on {cut} sets.")


def energy_table(data: Data) -> None:
    """What pictures have in the cliff, by which the prior is confirmed or refused."""
    projectors = data.projectors
    rows = {
        "the projector of the model": [projectors],
        f"turned at random, {len(SEEDS)} seeds": [turned_projectors(projectors, seed) for seed in SEEDS],
        "transposed": [projectors.replace(text=projectors.text.T)],
    }
    if data.foreign is not None:
        rows["of another model (Chinese-CLIP)"] = [data.foreign]
    header(
        "Energy in the cliff, times its share: lowest and highest of the whole and the small sets, and of the ImageNet names",
        ["text projector", "cliff", "pictures", "names"],
    )
    galleries = [task.queries for task in (*data.tasks(), *data.small_tasks())]
    for name, several in rows.items():
        found, of_names = [], []
        for each in several:
            operator = InterModalOperator(each)
            behind, F = cliff(operator.S), operator.projected("image")
            *pictures, names = (
                cliff_energy(operator.coordinates(E, "image"), F, behind) for E in (*galleries, data.bank)
            )
            found += pictures
            of_names.append(names)
        line([name, behind, f"{min(found):.2f} to {max(found):.2f}", f"{min(of_names):.2f} to {max(of_names):.2f}"])


def banks_table(data: Data) -> None:
    """Text PCA with banks that do not name the classes of the set, on the small sets."""
    rng, gains = np.random.default_rng(0), {}
    for task in data.small_tasks():
        plain = mean(task, normalize_rows)
        foreign = task.name.endswith("of Caltech101")  # whose labels are no numbers of ImageNet
        free = np.setdiff1d(np.arange(1000), [] if foreign else task.labels)
        gains.setdefault(("none", f"isoclip {BAND}"), []).append(mean(task, band_of(data.projectors)) - plain)
        for count in (700, 300, 100):
            bank = data.bank[rng.choice(free, count, replace=False)]
            for name, space in (
                ("text-pca", TextPCA()),
                ("text-pca-cliff", TextPCA(projectors=data.projectors)),
            ):
                gains.setdefault((str(count), name), []).append(mean(task, space.fit(bank).transform) - plain)
    header(
        "Text PCA on the small sets, with ImageNet names of other classes than theirs: gain of mAP over plain",
        ["names", "space", "mean", "smallest"],
    )
    for (count, name), found in gains.items():
        line([count, name, f"{np.mean(found):+.2f}", f"{min(found):+.2f}"])


def spaces(data: Data, count: int = COMPONENTS) -> dict[str, Transform]:
    """The band, Text PCA, and both in either order."""
    projectors, bank, width = data.projectors, data.bank, data.projectors.embedding_dim
    top, bottom = BAND
    inside = np.asarray(IsoCLIP(projectors, BAND).fit().operator_)
    first = np.asarray(TextPCA(count).fit(normalize_rows(bank @ inside.T)).operator_) @ inside
    half = np.asarray(TextPCA().fit(bank).operator_)
    after = np.linalg.svd(half @ np.asarray(projectors.text, np.float64), full_matrices=False)[0][:, 64:].T @ half
    return {
        "plain": normalize_rows,
        f"isoclip {top}/{bottom}": band_of(projectors),
        f"text-pca {width // 2}": TextPCA().fit(bank).transform,
        f"text-pca {count}": TextPCA(count).fit(bank).transform,
        f"text-pca-cliff: 0/{bottom} cut, then text-pca {count}": TextPCA(projectors=projectors).fit(bank).transform,
        f"{top}/{bottom} cut, then text-pca {count}": lambda X: normalize_rows(X @ first.T),
        f"text-pca {width // 2}, then 64/0 of it cut": lambda X: normalize_rows(X @ after.T),
        f"random-directions:{count}": RandomDirections(count).fit(bank).transform,
    }


def both_table(data: Data) -> None:
    """Which space under which classifier."""
    few = _few_shot_imagenet(data)
    header(
        f"The band and Text PCA (1,000 ImageNet names): mAP; accuracy on Caltech101 test at {' / '.join(map(str, SHOTS))} "
        "shots (nearest class mean) and 4 / 16 (LDA); on 100 ImageNet classes at 4 shots",
        [
            "",
            *(task.name for task in data.tasks()),
            "nearest class mean, Caltech101",
            "LDA, Caltech101",
            "nearest class mean, ImageNet",
            "LDA, ImageNet",
            "Project and Mix, ImageNet",
        ],
    )
    for name, move in spaces(data).items():
        maps = [f"{mean(task, move):.1f}" for task in data.tasks()]
        means = " / ".join(f"{hits(data.caltech, shots, move).mean():.1f}" for shots in SHOTS)
        discriminants = " / ".join(f"{hits(data.caltech, shots, move, LDA).mean():.1f}" for shots in SHOTS[1:])
        line([name, *maps, means, discriminants, *few(move)])


def _few_shot_imagenet(data: Data) -> Callable[[Transform], list[str]]:
    classes = np.arange(1, 1000, 10)
    Q, q = (np.concatenate([data.imagenet[f"{part}_{k}"] for k in (1, 2)]) for part in ("images", "labels"))
    of_query, of_shot = np.isin(q, classes), np.isin(data.imagenet["labels_4"], classes)
    X, y = data.imagenet["images_4"][of_shot], data.imagenet["labels_4"][of_shot]
    Q, q = Q[of_query], q[of_query]
    fresh = (Q @ X.T).max(axis=1) <= 0.995
    Q, q = Q[fresh], q[fresh]
    texts = {label: data.bank[label] for label in classes.tolist()}

    def accuracies(move: Transform) -> list[str]:
        found = [100 * kind().fit(move(X), y).score(move(Q), q) for kind in (NearestClassMean, LDA)]
        space = None if move is normalize_rows else type("Space", (), {"transform": staticmethod(move)})()
        found.append(100 * ProjectAndMix(space=space).fit(X, y, text=texts).score(Q, q))
        return [f"{accuracy:.1f}" for accuracy in found]

    return accuracies


def read(folder: Path) -> Data | None:
    """The files, or None where they are absent."""
    names = ["vitb32_caltech101.npz", "vitb32_imagenet_fewshot.npz", "projectors/openai_vitb32_text.npz"]
    if not all((folder / name).is_file() for name in names):
        return None

    def rows(values: Any) -> Any:
        return normalize_rows(values.astype(np.float32)) if values.dtype == np.float16 else values

    caltech, imagenet = ({key: rows(values) for key, values in np.load(folder / name).items()} for name in names[:2])
    other = folder / "projectors" / "chinese_clip_vitb16_finetuned.npz"
    foreign = Projectors(text=np.load(other)["text"]) if other.is_file() else None
    return Data(caltech, imagenet, Projectors(text=np.load(folder / names[2])["text"]), foreign)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", choices=("main", "bands", "small", "both"), help="one part of the tables")
    arguments = parser.parse_args()
    data = read(arguments.data)
    if data is None:
        print("skipped: the ViT-B/32 embeddings and its text projector are not beside this checkout (../shared/data)")
        return
    warnings.simplefilter("ignore")
    if arguments.only in (None, "main"):
        main_table(data)
    if arguments.only in (None, "bands"):
        rules_table(data, grid_table(data))
    if arguments.only in (None, "small"):
        losses_table(data)
        energy_table(data)
        banks_table(data)
    if arguments.only in (None, "both"):
        both_table(data)


if __name__ == "__main__":
    main()
