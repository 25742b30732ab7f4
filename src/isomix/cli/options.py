"""Every option of the command line: its name, its limits and its words, once for all verbs.

A verb says in its signature which of them it takes, and what holds without them. An option means the same in every verb;
where the value has another type there (one or several, required or not), it is a second line below the same words.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

MODEL_NAMES = (
    "embedded, a short name (clip-b32, clip-l14, siglip2-b16 ...; isomix doctor lists them), hf:<hub id or folder>, "
    "openclip:<name>/<tag>, or a model folder"
)
SEVERAL = "May be repeated."


def _output(what: str) -> Any:
    return typer.Option("--output", "-o", metavar=what, help="Where to write it.")


def _model(default: str | bool = True) -> Any:
    return typer.Option("--model", help=f"The model: {MODEL_NAMES}.", show_default=default)


# ---------------------------------------------------------------------- the model and how it runs

Model = Annotated[str, _model()]
ModelOrEmbedded = Annotated[str | None, _model("embedded")]
ModelNamed = Annotated[str | None, _model(False)]
ModelOfTable = Annotated[str | None, _model("the table's own")]
ModelForTable = Annotated[str | None, _model("as the source says; for tables only")]
ModelOfData = Annotated[str | None, _model("a table's own, none for arrays, else embedded")]
Device = Annotated[str | None, typer.Option("--device", help="Where the model runs: cpu, cuda, mps.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never open a connection.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Pictures encoded at once.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Decoding threads.", show_default="the cores, at most 8")
]
MaxMegapixels = Annotated[float, typer.Option("--max-megapixels", min=0.01, help="Larger pictures are skipped.")]

# ---------------------------------------------------------------------- what is written, and how it is printed

TableOutput = Annotated[Path, _output("TABLE.lance")]
TargetOutput = Annotated[str | None, _output("TARGET")]
ClassifierOutput = Annotated[Path, _output("FILE.safetensors")]
ReportOutput = Annotated[Path | None, _output("FILE.csv|json|html")]
FileOutput = Annotated[Path | None, _output("FILE")]
FolderOutput = Annotated[Path, _output("FOLDER")]
UndoOutput = Annotated[Path | None, typer.Option("--undo", metavar="FILE", help="Write the undo script here.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run wrote.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class RowFormat(enum.StrEnum):
    """What classified pictures are printed as."""

    CSV = "csv"
    JSONL = "jsonl"


class TableFormat(enum.StrEnum):
    """What tables of runs are printed as."""

    MARKDOWN = "markdown"
    CSV = "csv"
    HTML = "html"
    LATEX = "latex"


RowsAs = Annotated[RowFormat, typer.Option("--format", help="What to print.")]
TablesAs = Annotated[TableFormat, typer.Option("--format", help="What to print.")]
Paths = Annotated[bool, typer.Option("--paths", help="Print bare paths, for pipes.")]
Null = Annotated[bool, typer.Option("--null", "-0", help="The same, each ended by NUL, for xargs -0.")]
Sheet = Annotated[
    Path | None, typer.Option("--contact-sheet", help="Draw queries and hits into this .png or .jpg file.")
]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw the spectrum into this .svg, .png or .pdf file.")]
Figures = Annotated[
    Path | None, typer.Option("--figures", help="Draw accuracy over shots, bands and latency into this folder.")
]

# ---------------------------------------------------------------------- pictures and their labels


class Labels(enum.StrEnum):
    """Where labels come from."""

    FOLDERS = "folders"


LabelsFrom = Annotated[
    Labels | None, typer.Option("--labels", help="'folders': the first folder of a path is its label.")
]
ListRoot = Annotated[
    Path | None, typer.Option("--root", help="Where relative paths of a list start.", show_default="its folder")
]
KeepFeatures = Annotated[bool, typer.Option("--keep-features", help="Keep pre-projection features too.")]
KeepVanished = Annotated[
    bool, typer.Option("--keep-vanished", help="Keep rows of files that the source no longer has.")
]
NoThumbnails = Annotated[
    bool, typer.Option("--no-thumbnails", help="Keep no small copies of the pictures for `serve` (some 3 kB each).")
]
Retry = Annotated[bool, typer.Option("--retry", help="Try again what could not be read before.")]


class EngineName(enum.StrEnum):
    """Where pictures are encoded."""

    LOCAL = "local"
    RAY = "ray"


OnEngine = Annotated[EngineName, typer.Option("--engine", help="'ray': on the machines of a Ray cluster.")]
Address = Annotated[
    str | None,
    typer.Option(
        "--address", help="Of the Ray cluster; 'auto' on one of its machines.", show_default="this machine alone"
    ),
]
Actors = Annotated[
    int | None,
    typer.Option("--actors", min=1, help="Processes of Ray that encode.", show_default="one a GPU, or by processors"),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Embed the I-th of N parts of the source, into a table of its own beside TABLE.lance; `isomix table merge` joins "
        "them.",
    ),
]
OwnPictures = Annotated[
    Path | None,
    typer.Option("--images", help="A folder of your own; its subfolders are classes, their names the text."),
]

# ---------------------------------------------------------------------- spaces


class SpaceName(enum.StrEnum):
    """Spaces to search in."""

    AUTO = "auto"
    PLAIN = "plain"
    ISOCLIP = "isoclip"
    TEXT_PCA = "text-pca"
    NESTED_TEXT_PCA = "nested-text-pca"


class Modality(enum.StrEnum):
    """Whose embeddings are compared with one another."""

    IMAGE = "image"
    TEXT = "text"


class Dtype(enum.StrEnum):
    """Of the adapted vectors."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"


Space = Annotated[
    SpaceName,
    typer.Option(
        "--space",
        help="auto: sentences search the plain space; pictures nested-text-pca with a --bank, else the space that the table "
        "was smoothed in, else isoclip.",
    ),
]
SavedSpace = Annotated[
    Path | None, typer.Option("--space", help="A space saved before (.safetensors), instead of --model.")
]
Band = Annotated[
    str,
    typer.Option(
        "--band", help="What IsoCLIP cuts: 'preset', 'auto', '150/50' (largest / smallest directions), or a backbone."
    ),
]
ForModality = Annotated[Modality, typer.Option("--modality", help="image-image or text-text similarity.")]
TextOnly = Annotated[
    bool, typer.Option("--text-only", help="Read the text projector alone: enough for stored embeddings, a megabyte.")
]
DbTable = Annotated[
    str | None,
    typer.Option("--table", metavar="[SCHEMA.]TABLE", help="Of a database; public where no schema is named."),
]
DbKey = Annotated[
    str | None,
    typer.Option("--key", help="A column that is unique and never NULL.", show_default="the primary key"),
]
NamedKey = Annotated[str, typer.Option("--key", help="A column that is unique and never NULL.")]
OwnSchema = Annotated[str, typer.Option("--schema", help="Made by the script; all that it makes is in there.")]
HalfVec = Annotated[bool, typer.Option("--halfvec", help="Keep the adapted vectors in half precision.")]
NoIndex = Annotated[bool, typer.Option("--no-index", help="Build no HNSW index.")]
NoFill = Annotated[bool, typer.Option("--no-fill", help="Leave what is there already to CALL ….fill(), or to adapt.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Check everything, say what would be done and how to undo it, and write nothing."),
]
NoCompact = Annotated[bool, typer.Option("--no-compact", help="Keep the width; the cosines are the same.")]
Column = Annotated[
    str | None,
    typer.Option("--column", help="Column of the vectors. For a table without -o: the new column that is added to it."),
]
Where = Annotated[
    str | None,
    typer.Option("--where", metavar="SQL", help="A condition on its columns, e.g. \"label = 'cat' AND width > 500\"."),
]
VersionNumber = Annotated[
    int | None, typer.Option("--version", min=1, help="Number of the version.", show_default="the last")
]
DropName = Annotated[bool, typer.Option("--drop", help="Drop the name instead; the version may go then.")]
NearCosine = Annotated[
    float, typer.Option("--threshold", min=-1.0, max=1.0, help="Smallest cosine of two near-duplicates.")
]
Vectors = Annotated[str | None, typer.Option("--column", help="Column of the vectors.", show_default="the only one")]
NamedVectors = Annotated[str | None, typer.Option("--column", help="Column of the vectors.")]
Smooth = Annotated[
    bool,
    typer.Option(
        "--smooth",
        help="For a table without -o: add smoothed columns too, every picture averaged with its nearest. Searches use them.",
    ),
]
NoSmoothed = Annotated[
    bool,
    typer.Option("--no-smoothed", help="Leave smoothed columns aside (those of adapt --smooth)."),
]
Expand = Annotated[
    bool,
    typer.Option(
        "--expand", help="Average a picture with those it finds first, and search again; needs adapt --smooth."
    ),
]
AsDtype = Annotated[Dtype | None, typer.Option("--dtype", help="Of the result.", show_default="the source's")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Rows without a direction become NaN.")]
Sentences = Annotated[
    Path | None,
    typer.Option(
        "--bank",
        help="Sentences, one a line, or .npz or .npy of their embeddings, or 'nouns'; pictures are compared by nested-text-pca.",
    ),
]
TextBank = Annotated[
    Path | None,
    typer.Option(
        "--text-bank",
        help="For Text PCA: .npz or .npy of text embeddings, or .txt of names.",
        show_default="everyday nouns",
    ),
]
ImageSample = Annotated[
    Path | None,
    typer.Option("--images", help="Stored image embeddings (any layout): a band that suits them, and shares."),
]
TextSample = Annotated[Path | None, typer.Option("--texts", help="Stored text embeddings: shares.")]
Hits = Annotated[int, typer.Option("-k", min=1, help="Hits per query.")]
WithSelf = Annotated[bool, typer.Option("--with-self", help="Let a query in the table find itself.")]

# ---------------------------------------------------------------------- classifiers


class Tier(enum.StrEnum):
    """Where the weights of a classifier come from."""

    LEAVE_ONE_OUT = "leave-one-out"
    FEW_VALIDATION = "few-validation"
    VALIDATION = "validation"


_CLASSIFIER = "Classifier by name; an unknown name lists them."
_TEMPLATE = "Sentence around a class name, with {}."
_SEED = "Of what is drawn at random: same seed, same figures."

Classifier = Annotated[str, typer.Option("--method", help=_CLASSIFIER)]
Classifiers = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help=f"{_CLASSIFIER} With +pool behind it, it learns from the test pictures without their labels. {SEVERAL}",
        show_default="all",
    ),
]
Template = Annotated[str | None, typer.Option("--template", help=_TEMPLATE, show_default="the model's own")]
Templates = Annotated[
    list[str] | None, typer.Option("--template", help=f"{_TEMPLATE} {SEVERAL}", show_default="the model's own")
]
Names = Annotated[
    Path | None, typer.Option("--names", help="CSV with the columns label and name, where folders do not say it.")
]
ZeroShot = Annotated[
    bool,
    typer.Option(
        "--zero-shot", help="Classes without pictures (empty folders, lines of --names) count by their names."
    ),
]
NoText = Annotated[bool, typer.Option("--no-text", help="Use the pictures only.")]
Folds = Annotated[int, typer.Option("--folds", min=0, help="Folds of the cross-validation; 0 for none.")]
Probabilities = Annotated[
    bool, typer.Option("--probabilities", help="Give the probability of every class, not only of the best.")
]
RejectBelow = Annotated[
    float | None, typer.Option("--reject-below", min=0, max=1, help="Leave the label empty below this probability.")
]
Transductive = Annotated[
    bool,
    typer.Option(
        "--transductive",
        help="Learn from these pictures before classifying them, as far as they deserve trust. Labels then depend on which "
        "pictures are given together, and come after all of them are read.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help=_SEED)]
Seeds = Annotated[list[int] | None, typer.Option("--seed", min=0, help=f"{_SEED} {SEVERAL}", show_default="1, 2, 3")]
Draws = Annotated[int, typer.Option("--draws", min=2, help="Random draws of the shots.")]

# ---------------------------------------------------------------------- measuring


class Against(enum.StrEnum):
    """What runs are held against."""

    PAPER = "paper"


Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help=f"Method by name: plain, text-pca:256, isoclip:auto, isoclip:150/50, plain+smoothing ... {SEVERAL}",
    ),
]
Shots = Annotated[
    list[int] | None,
    typer.Option("--shots", min=1, help=f"Pictures a class to fit on. {SEVERAL}", show_default="1, 2, 4, 8, 16"),
]
Tiers = Annotated[
    list[Tier] | None,
    typer.Option(
        "--tier",
        help=f"What weights are chosen by: the shots alone, few or all validation pictures. {SEVERAL}",
        show_default="leave-one-out",
    ),
]
Latency = Annotated[int, typer.Option("--latency", min=0, help="Time this many queries of each method.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of the run files.")]
DataRoot = Annotated[Path, typer.Option("--root", help="Folder that holds the published data sets.")]
Cache = Annotated[
    Path | None, typer.Option("--cache", help="Where encoded pictures are kept.", show_default="RUNS/features")
]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave unreadable pictures out, instead of stopping.")
]
AgainstFigures = Annotated[Against | None, typer.Option("--against", help="'paper': published figures beside ours.")]

# ---------------------------------------------------------------------- of the command itself


def version_option(show: Any) -> Any:
    """``--version``, which calls ``show`` before anything else."""
    return typer.Option("--version", callback=show, is_eager=True, help="Print the version and stop.")


Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

# ---------------------------------------------------------------------- the studio

Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")]
Host = Annotated[
    str, typer.Option("--host", help="Address to listen on. Others than this machine's own are reached by its link.")
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="ISOMIX_TOKEN",
        help="Opens the studio in any browser; 16 characters or more.",
        show_default="a random one, and a link that works once",
    ),
]
ReadOnly = Annotated[bool, typer.Option("--read-only", help="Keep no labels, votes or verdicts.")]
NoOpen = Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")]
PictureRoots = Annotated[
    list[Path] | None,
    typer.Option("--pictures-from", help=f"A folder that pictures may be read from, beside the table's own. {SEVERAL}"),
]
