"""Classes made of pictures: labels, the classifier they give, what to label next, and files of both."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Response
from pydantic import Field

from isomix.errors import InputError, IsomixError
from isomix.fewshot.label_next import label_next
from isomix.metrics.proportions import wilson_interval
from isomix.web import library
from isomix.web.routes.common import Body, StudioOf, attachment, csv_text, sends
from isomix.web.studio import Studio
from isomix.web.text import file_stem, printable

router = APIRouter()
Name = Annotated[str, Field(min_length=1, max_length=200)]
CONFUSED_SHOWN = 12


class LabelBody(Body):
    """A label for rows; null takes it away."""

    rows: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, max_length=100_000)
    label: Name | None


class ClassBody(Body):
    """What happens to a class."""

    action: Literal["add", "remove", "rename"]
    name: Name
    new: Name | None = None


@router.post("/api/labels")
def label(studio: StudioOf, body: LabelBody) -> dict[str, Any]:
    """Label rows; kept in the side file, not in the table."""
    studio.side_file.label([studio.rows.ids[studio.check_row(row)] for row in body.rows], body.label)
    return classes_of(studio)


@router.post("/api/classes")
def change_class(studio: StudioOf, body: ClassBody) -> dict[str, Any]:
    """Make, remove or rename a class."""
    if body.action == "add":
        studio.side_file.add_class(body.name)
    elif body.action == "remove":
        studio.side_file.remove_class(body.name)
    elif body.new is None:
        raise InputError("new: got none, expected the other name.")
    else:
        studio.side_file.rename_class(body.name, body.new)
    return classes_of(studio)


@router.get("/api/classes")
def classes(studio: StudioOf) -> dict[str, Any]:
    """The classes, and how good the classifier is that they give."""
    return classes_of(studio)


def _shots(studio: Studio) -> tuple[list[int], list[str]]:
    number = studio.rows.number_of
    found = [(number[i], label) for i, label in studio.side_file.labels.items() if i in number]
    found.sort()
    return [row for row, _ in found], [label for _, label in found]


def _fitted(studio: Studio) -> tuple[Any, list[int], list[str]]:
    rows, labels = _shots(studio)
    names = sorted(set(labels))
    if len(names) < 2:
        raise InputError("Two classes with a picture each make a classifier.")
    encoder = studio.encoder_at_hand()  # without it, pictures alone make a classifier too
    with studio.fitting:
        key = (studio.side_file.revision, studio.rows.table.version, encoder is not None)
        if studio.fitted is None or studio.fitted[0] != key:
            studio.fitted = (key, library.fit_classifier(studio.rows.vectors[rows], labels, encoder, names))
        return studio.fitted[1], rows, labels


def classes_of(studio: Studio) -> dict[str, Any]:
    """What :func:`classes` answers."""
    rows, labels = _shots(studio)
    answer: dict[str, Any] = {
        "revision": studio.side_file.revision,
        "classes": [
            {"name": name, "rows": [row for row, label in zip(rows, labels, strict=True) if label == name]}
            for name in studio.side_file.classes
        ],
        "known": studio.describe(rows),
        "problem": "",
        "accuracy": None,
    }
    try:
        classifier, rows, labels = _fitted(studio)
    except IsomixError as error:
        return {**answer, "problem": str(error)}
    answer["chosen"] = {
        "method": classifier.method,
        "text": bool(classifier.has_text_.any()),
        "tier": str(classifier.weight_tier_),
        "weights": {name: round(float(np.mean(value)), 4) for name, value in classifier.weights_.items()},
    }
    judged = library.left_out(classifier, studio.rows.vectors[rows], labels)
    if judged is None:
        return {
            **answer,
            "problem": "Two pictures of a class, and one of them can be left out to see whether it is recognised.",
        }
    positions, guesses = judged
    truth = [labels[position] for position in positions]
    right = sum(t == g for t, g in zip(truth, guesses, strict=True))
    low, high = wilson_interval(right, len(truth))
    wrong: dict[tuple[str, str], list[int]] = {}
    for position, true, guess in zip(positions, truth, guesses, strict=True):
        if true != guess:
            wrong.setdefault((true, guess), []).append(rows[position])
    pairs = sorted(wrong.items(), key=lambda item: (-len(item[1]), item[0]))
    return {
        **answer,
        "accuracy": {"right": right, "n": len(truth), "share": right / len(truth), "low": low, "high": high},
        "confused": [{"true": t, "guess": g, "rows": found} for (t, g), found in pairs[:CONFUSED_SHOWN]],
        "n_confused": len(pairs),
    }


@router.get("/api/label-next")
def suggest(
    studio: StudioOf, k: Annotated[int, Query(ge=1, le=60)] = 12, seed: Annotated[int, Query(ge=0, le=10**6)] = 0
) -> dict[str, Any]:
    """Pictures whose labels would help most, and the rule that chose them."""
    mine = studio.side_file.labels
    labels = [mine.get(identifier) for identifier in studio.rows.ids]
    try:
        classifier, _, _ = _fitted(studio)
    except IsomixError:
        classifier = None
    key = ("next", studio.side_file.revision, k, seed)

    def choose() -> Any:
        return label_next(studio.rows.vectors, labels, k=k, classifier=classifier, seed=seed)

    found = studio.slow.result(key, choose, "looking for pictures worth a label", wait=1.0)
    words = {
        "typical": "Typical pictures: labels are few, so what is common helps most.",
        "doubtful": "Doubtful pictures: the classifier hesitates here, and they are far apart.",
    }
    guesses: list[str | None] = [None] * len(found.rows)
    if classifier is not None and len(found.rows):
        guesses = [printable(str(guess)) for guess in classifier.predict(studio.rows.vectors[found.rows])]
    shown = studio.describe(found.rows)
    return {
        "rule": found.rule,
        "words": words[found.rule],
        "rows": [{**row, "guess": guess} for row, guess in zip(shown, guesses, strict=True)],
    }


@router.get("/api/export/labels", response_class=Response, responses=sends("text/csv"))
def export_labels(studio: StudioOf) -> Response:
    """The labels as CSV: path and label, as `isomix fit` and `isomix embed` read them."""
    rows, labels = _shots(studio)
    text = csv_text(
        ("path", "label"), ([studio.rows.paths[row], label] for row, label in zip(rows, labels, strict=True))
    )
    return attachment(text, f"{file_stem(studio.path.stem)}-labels.csv", "text/csv; charset=utf-8")


@router.get("/api/export/predictions", response_class=Response, responses=sends("text/csv"))
def export_predictions(studio: StudioOf) -> Response:
    """What the classifier says of every row, as CSV."""
    classifier, _, _ = _fitted(studio)
    probabilities = classifier.predict_proba(studio.rows.vectors)
    best = probabilities.argmax(axis=1)
    named = classifier.classes_[best]
    text = csv_text(
        ("path", "label", "probability"),
        (
            [path, str(name), f"{p[b]:.4f}"]
            for path, name, p, b in zip(studio.rows.paths, named, probabilities, best, strict=True)
        ),
    )
    return attachment(text, f"{file_stem(studio.path.stem)}-predictions.csv", "text/csv; charset=utf-8")


@router.get("/api/export/classifier", response_class=Response, responses=sends("application/octet-stream"))
def export_classifier(studio: StudioOf) -> Response:
    """The classifier as a file that `isomix classify` and isomix.load_classifier read."""
    classifier, rows, _ = _fitted(studio)
    metadata = studio.rows.table.metadata
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "classifier.safetensors"
        classifier.save(path, source=library.classifier_source(studio.rows.table, studio.encoder_at_hand(), len(rows)))
        content = path.read_bytes()
    return attachment(
        content,
        f"{file_stem(studio.path.stem)}-{file_stem(metadata.model)}-classes.safetensors",
        "application/octet-stream",
    )


@router.get("/api/export/snippet")
def export_snippet(studio: StudioOf) -> dict[str, str]:
    """The same in Python."""
    stem = file_stem(studio.path.stem)
    model = printable(studio.rows.table.metadata.model)
    code = (
        "import csv\n\nimport numpy as np\n\nimport isomix\nfrom isomix.store import EmbeddingTable\n\n"
        f"table = EmbeddingTable.open({studio.path.name!r})\n"
        f"with open({stem + '-labels.csv'!r}, newline='') as stream:\n"
        "    labels = {row['path']: row['label'] for row in csv.DictReader(stream)}\n"
        "paths = table.column('path')\n"
        "rows = [number for number, path in enumerate(paths) if path in labels]\n"
        "X = table.embeddings().astype(np.float32)\n"
        "y = [labels[paths[row]] for row in rows]\n\n"
        f"encoder = isomix.load_encoder({model!r})\n"
        "names = sorted(set(y))\n"
        "text = dict(zip(names, encoder.encode_text(names).embeddings))\n"
        "classifier = isomix.ProjectAndMix(logit_scale=encoder.logit_scale).fit(X[rows], y, text=text)\n"
        "print(classifier.predict(X)[:10])\n"
    )
    return {"code": code}


@router.post("/api/export/table-labels")
def write_labels(studio: StudioOf) -> dict[str, int]:
    """Write the labels into the table's label column: the one thing here that changes the table."""
    if studio.read_only:
        raise InputError("this table is served read-only. Start it without --read-only.")
    mine = {i: label for i, label in studio.side_file.labels.items() if i in studio.rows.number_of}
    if not mine:
        raise InputError("nothing is labelled yet.")
    studio.rows.table.update({identifier: {"label": label} for identifier, label in mine.items()})
    studio.reload()
    return {"written": len(mine)}
