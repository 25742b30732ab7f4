"""``isomix fit``: a few-shot classifier from a few pictures a class."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isomix.cli import options

if TYPE_CHECKING:
    from isomix.fewshot import FewShotClassifier
    from isomix.fewshot.cross_validation import CrossValidation
    from isomix.store.labelled import Shots


def command(
    shots: Annotated[
        str, typer.Argument(help="A folder of one folder a class, a CSV with path and label, or a table.")
    ],
    output: options.ClassifierOutput,
    model: options.ModelOrEmbedded = None,
    method: options.Classifier = "project-and-mix",
    template: options.Templates = None,
    names: options.Names = None,
    zero_shot: options.ZeroShot = False,
    no_text: options.NoText = False,
    folds: options.Folds = 5,
    batch_size: options.BatchSize = 32,
    max_megapixels: options.MaxMegapixels = 100.0,
    device: options.Device = None,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Fit a classifier on a few pictures a class; folder names are the text."""
    from isomix.cli.classifier_report import folded, names_of
    from isomix.cli.common import (
        ExitCode,
        advise_on_photographs,
        check_output,
        fail_usage,
        log,
        out,
        print_json,
        report_failures,
    )
    from isomix.cli.progress import progress as progress_bar
    from isomix.encoders import load_encoder
    from isomix.encoders.prompts import check_templates, default_templates, encode_classes
    from isomix.errors import IsomixWarning
    from isomix.fewshot import CLASSIFIERS
    from isomix.fewshot.cross_validation import cross_validate
    from isomix.store.labelled import read_shots

    if method not in CLASSIFIERS:
        fail_usage(f"--method {method!r} is unknown; there are: {', '.join(sorted(CLASSIFIERS))}.")
    if zero_shot and no_text:
        fail_usage("--zero-shot takes classes by their names, and --no-text has no names. Choose one.")
    check_output(output, overwrite=overwrite)
    if model is None:
        advise_on_photographs(shots)
    encoder = load_encoder(model or "embedded", offline=offline, device=device)
    templates = check_templates(template or default_templates(encoder))
    with progress_bar("pictures") as progress:
        read = read_shots(shots, encoder, batch_size=batch_size, max_megapixels=max_megapixels, progress=progress)
    labels = set(read.labels.tolist())
    named = _read_names(names)
    if zero_shot:
        labels |= {*read.empty_classes, *named}
    elif read.empty_classes:
        warnings.warn(_left_out(read.empty_classes), IsomixWarning, stacklevel=1)
    unknown = sorted(set(named) - labels)
    if unknown:
        fail_usage(
            f"--names {names}: no pictures of {_near(unknown, labels)}; the classes are {names_of(sorted(labels), 10)}. "
            "Spell the label like the folder, or add --zero-shot to know such classes by their names."
        )
    _check_twins(read)
    text = None if no_text else encode_classes(encoder, sorted(labels), names=named, templates=templates)
    classifier = _classifier(CLASSIFIERS[method], logit_scale=encoder.logit_scale, calibrate=True)
    with warnings.catch_warnings():  # said once, in the words of the command line
        for opening in ("calibrate=True: ", "text: misspelt"):
            warnings.filterwarnings("ignore", opening, IsomixWarning)
        validation = cross_validate(classifier, read.embeddings, read.labels, text, folds=folds)
        classifier.fit(read.embeddings, read.labels, text)
    seen = set(read.labels.tolist())
    slips = [label for label in sorted(labels - seen) if _nearest(label, seen, 0.8)]
    if slips:
        warnings.warn(
            f"no pictures of {_near(slips, seen)}, which --zero-shot makes a class of its own. If that is a slip, spell the "
            "label like the folder with the pictures.",
            IsomixWarning,
            stacklevel=1,
        )
    classifier.save(
        output,
        source={
            "model": encoder.spec,
            "fingerprint": encoder.fingerprint,
            "templates": list(templates),
            "shots": str(shots),
        },
    )
    if as_json:
        print_json(_summary(classifier, read, validation, output))
    else:
        for line in _report(classifier, read, validation):
            for part in folded(line, out.width) if not line.startswith(" ") else [line]:
                out.print(part, markup=False, soft_wrap=True)
        log.print(f"written to {output}", markup=False)
    if report_failures(read.failures):
        raise typer.Exit(ExitCode.SKIPPED_FILES)


def _classifier(kind: type[FewShotClassifier], **settings: Any) -> FewShotClassifier:
    """Make one with those of the settings that its kind has."""
    import inspect

    accepted = inspect.signature(kind).parameters
    return kind(**{name: value for name, value in settings.items() if name in accepted})


def _read_names(path: Path | None) -> dict[str, str]:
    import csv

    from isomix.cli.common import fail_usage
    from isomix.store.scan import csv_reader

    if path is None:
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv_reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        fail_usage(f"--names {path}: {error}")
    if not rows or not {"label", "name"} <= set(rows[0]):
        fail_usage(f"--names {path}: expected a CSV file with the columns label and name.")
    return {row["label"]: row["name"] for row in rows}


def _check_twins(read: Shots) -> None:
    """Raise :class:`InputError` for a picture in two classes, by its paths."""
    from isomix._arrays import first_identical
    from isomix.errors import InputError

    twins = first_identical(read.embeddings)
    for row, (first, label) in enumerate(zip(twins, read.labels, strict=True)):
        if read.labels[first] != label:
            raise InputError(
                f"{read.paths[first]} and {read.paths[row]} are the same picture in two classes, {str(read.labels[first])!r} and "
                f"{str(label)!r}. Keep one of them."
            )


def _near(unknown: list[str], labels: set[str]) -> str:
    """Labels that have no pictures, with the class that each may be."""
    near = {label: _nearest(label, labels, 0.6) for label in unknown[:5]}
    shown = [label + (f" (near {close})" if close else "") for label, close in near.items()]
    return ", ".join(shown) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")


def _nearest(label: str, labels: set[str], cutoff: float) -> str | None:
    import difflib

    return next(iter(difflib.get_close_matches(label, sorted(labels), 1, cutoff)), None)


def _left_out(labels: list[str]) -> str:
    from isomix.cli.classifier_report import names_of

    return (
        f"no picture of {names_of(map(repr, labels))} can be read, so there is no such class. Add pictures, or --zero-shot to know such classes "
        "by their names."
    )


def _summary(classifier: Any, read: Any, validation: CrossValidation | None, output: Path) -> dict[str, Any]:
    counts = dict(zip(classifier.classes_.tolist(), classifier.counts_.tolist(), strict=True))
    return {
        "output": str(output),
        "method": classifier.method,
        "classes": {label: int(count) for label, count in counts.items()},
        "weights": classifier.weights_,
        "weight_tier": classifier.weight_tier_,
        "untrusted_texts": _untrusted(classifier),
        "calibrated": _is_calibrated(classifier),
        "cross_validation": None if validation is None else _named(validation, read.paths),
        "failures": read.failures,
    }


def _untrusted(classifier: Any) -> list[str]:
    """Classes whose text the shots speak against; none for a method that does not ask."""
    trusted = getattr(classifier, "trusted_texts_", classifier.has_text_)
    return list(classifier.classes_[classifier.has_text_ & ~trusted].tolist())


def _named(validation: CrossValidation, paths: list[str]) -> dict[str, Any]:
    """The cross-validation with paths in place of numbers."""
    suspects = [{"path": paths[i], "label": label, "taken_for": guess} for i, label, guess in validation.suspects]
    return {**validation.to_dict(), "suspects": suspects}


def _is_calibrated(classifier: Any) -> bool:
    return bool(classifier.temperature_ != 1.0)


def _report(classifier: Any, read: Any, validation: CrossValidation | None) -> list[str]:
    import numpy as np

    from isomix.cli.classifier_report import names_of, pictures_each
    from isomix.cli.common import visible, weights_line

    counts = classifier.counts_
    labels, seen = np.unique(read.labels, return_counts=True)
    lines = [f"{classifier.method}: {pictures_each(seen.tolist())}"]
    if len(labels) < len(counts):
        lines.append(f"known by name alone: {', '.join(map(str, classifier.classes_[counts == 0]))}")
    lines.append(weights_line(classifier.weight_tier_, classifier.weights_))
    if untrusted := _untrusted(classifier):
        more = f" and {len(untrusted) - 5} more" if len(untrusted) > 5 else ""
        lines.append(
            f"texts of {len(untrusted)} of {int(classifier.has_text_.sum())} classes are not trusted, their pictures look like "
            f"other names: {', '.join(map(str, untrusted[:5]))}{more}"
        )
    lines.append(
        "probabilities: calibrated on shots left out, one at a time"
        if _is_calibrated(classifier)
        else "probabilities: not calibrated; at one picture a class none can be left out"
        if seen.max() == 1
        else "probabilities: not calibrated; too few classes have a second picture"
    )
    if validation is None:
        alone = labels[seen == 1]
        missing = f"; there is one of {names_of(alone)}" if 0 < len(alone) < len(labels) else ""
        return [*lines, f"no cross-validation: it needs two pictures or more of every class{missing}"]
    lines.append(
        f"cross-validated accuracy {100 * validation.accuracy:.1f} % "
        f"({validation.folds} folds, {validation.n} pictures, chance {100 / len(counts):.1f} %)"
    )
    if validation.confusions:
        lines.append("most frequent confusions:")
        lines += [f"  {count:>4}  {true} taken for {guess}" for true, guess, count in validation.confusions[:5]]
        lines.append("pictures that look most like another class; is the label right?")
        lines += [f"  {visible(read.paths[i])}: looks like {guess}" for i, _, guess in validation.suspects[:5]]
        if len(validation.suspects) > 5:
            lines.append(f"  and {len(validation.suspects) - 5} more, all of them with --json")
    return lines
