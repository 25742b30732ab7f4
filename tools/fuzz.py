"""Damaged and hostile input for every format that isomix reads; whatever is not an answer or an error of isomix is a failure.

Run: ``python tools/fuzz.py [--cases N | --seconds N] [--format NAME ...] [--first N] [--jobs N]``, or ``make fuzz`` for an
hour; the short form of it is ``tests/fuzz``. One case again: ``python tools/fuzz.py --format NAME --first NUMBER --cases 1``.

Each case takes a whole seed of its format, damages it (bytes, numbers, text, or parts of the format with its lengths and
checksums made right again), and reads it in a child process. A failure is an exception that is not one of
``isomix.errors``, a child that dies, more than ``SECONDS`` of processor time, or more than ``MEMORY`` bytes asked for beyond
what the child had when it began, even where that ends in an error of isomix. The input of a failure is kept under
``fuzz-output/failures``. With ``--corpus``, inputs that end in a way not met before are kept and damaged further; a number then
repeats a case only with the corpus that it met.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = 20.0
"""Processor time of one case, and a tenth of the time on the clock after which a child that waits is killed."""

MEMORY = 1 << 30
"""Bytes that a child may map beyond what it had before its first case."""

SEED_LIMIT = 1 << 20

# ---------------------------------------------------------------------- seeds and readers


def vectors(rows: int = 40, width: int = 16, dtype: Any = np.float32) -> Any:
    """Unit rows, always the same."""
    matrix = np.random.default_rng(0).standard_normal((rows, width))
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(dtype)


def seed_npy(folder: Path) -> None:
    """One matrix of each precision, one of them in the order of Fortran."""
    np.save(folder / "half.npy", vectors(dtype=np.float16))
    np.save(folder / "single.npy", vectors())
    np.save(folder / "fortran.npy", np.asfortranarray(vectors(dtype=np.float64)))


def seed_npz(folder: Path) -> None:
    """Stored and deflated, with a second array."""
    np.savez(folder / "stored.npz", features=vectors(), labels=np.arange(40))
    np.savez_compressed(folder / "deflated.npz", features=vectors(dtype=np.float16), paths=np.array(["a", "b"]))


def seed_fvecs(folder: Path) -> None:
    """As faiss's own tools write it."""
    rows = np.empty((40, 17), np.float32)
    rows[:, 0] = np.array([16], np.int32).view(np.float32)
    rows[:, 1:] = vectors()
    rows.tofile(folder / "a.fvecs")


def seed_safetensors(folder: Path) -> None:
    """Vectors beside another tensor."""
    from safetensors.numpy import save_file

    save_file({"image": vectors(), "labels": np.arange(40)}, folder / "a.safetensors")


def seed_parquet(folder: Path) -> None:
    """Lists of a variable and of a fixed length, with and without compression."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f"n{i}" for i in range(40)]
    pq.write_table(pa.table({"name": names, "emb": list(vectors())}), folder / "lists.parquet", compression="none")
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(vectors().ravel()), 16)
    pq.write_table(pa.table({"name": names, "emb": fixed}), folder / "fixed.parquet")


def seed_faiss(folder: Path) -> None:
    """Flat indexes of both metrics, written without faiss."""
    for name, code, metric in (("inner", b"IxFI", 0), ("euclidean", b"IxF2", 1)):
        head = code + struct.pack("<iqqqBi", 16, 40, 1 << 20, 1 << 20, 1, metric) + struct.pack("<Q", 640)
        (folder / f"{name}.index").write_bytes(head + vectors().tobytes())


def seed_clip_retrieval(folder: Path) -> None:
    """Both halves of a folder, in two parts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("img_emb", "text_emb", "metadata"):
        (folder / "stored" / name).mkdir(parents=True)
    for part in range(2):
        for half in ("img", "text"):
            np.save(folder / f"stored/{half}_emb/{half}_emb_{part}.npy", vectors(10, 8, np.float16))
        table = pa.table({"image_path": [f"{part}/{i}.jpg" for i in range(10)], "caption": ["c"] * 10})
        pq.write_table(table, folder / f"stored/metadata/metadata_{part}.parquet")


def projectors() -> Any:
    """A small pair."""
    from isomix import Projectors

    rng = np.random.default_rng(1)
    image, text = (rng.standard_normal((16, width)).astype(np.float32) for width in (24, 20))
    return Projectors(image, text, logit_scale=100.0, source="fuzz")


def seed_space(folder: Path) -> None:
    """One that cuts a band and one that whitens."""
    import isomix

    isomix.IsoCLIP(projectors(), band=(2, 2)).fit().save(folder / "isoclip.safetensors")
    isomix.spaces.PCAWhitening().fit(vectors()).save(folder / "whitening.safetensors")


def seed_classifier(folder: Path) -> None:
    """The default one and a cache."""
    from isomix import fewshot

    labels = np.array([f"c{i % 4}" for i in range(40)])
    text = {f"c{i}": row for i, row in enumerate(vectors(4))}
    for name in ("ProjectAndMix", "LDA", "TipAdapter"):
        classifier = getattr(fewshot, name)()
        (classifier.fit(vectors(), labels, text=text)).save(folder / f"{name}.safetensors")


def seed_projectors(folder: Path) -> None:
    """As isomix saves them."""
    projectors().save(folder / "pair.safetensors")


def seed_model(folder: Path) -> None:
    """A folder of transformers with nothing but its projectors and configurations."""
    from safetensors.numpy import save_file

    model = folder / "clip"
    model.mkdir()
    pair = projectors()
    save_file(
        {"visual_projection.weight": pair.image, "text_projection.weight": pair.text}, model / "model.safetensors"
    )
    (model / "config.json").write_text(json.dumps({"model_type": "clip", "projection_dim": 16}))
    processor = {"size": {"shortest_edge": 224}, "crop_size": 224, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (model / "preprocessor_config.json").write_text(json.dumps(processor))


def seed_table(folder: Path) -> None:
    """An embedding table with two rows a commit and a ledger."""
    from isomix.store.ledger import Failure
    from isomix.store.schema import TableMetadata
    from isomix.store.table import EmbeddingTable

    made = TableMetadata("m", "f" * 64, "p" * 64, {"size": 8}, 16, root="photos")
    (folder / "tables").mkdir()
    table = EmbeddingTable.create(folder / "tables" / "photos.lance", made)
    for start in (0, 20):
        names = [f"{i}.png" for i in range(start, start + 20)]
        ids = [f"{i:032x}" for i in range(start, start + 20)]
        columns = {"id": ids, "path": names, "size": [1] * 20, "width": [9] * 20, "height": [9] * 20}
        table.append({**columns, "embedding": vectors()[start : start + 20]})
    table.ledger.add([Failure("e" * 32, "broken.png", 3, 4, "no picture")])


def seed_lists(folder: Path) -> None:
    """Lists of paths and CSV files."""
    (folder / "list.txt").write_text("a.png\nb/c.jpg\n\n/tmp/d.png\n")
    (folder / "list.csv").write_text('path,label,caption\na.png,cat,"one, two"\nb.png,dog,three\n')
    (folder / "semicolons.csv").write_text("filepath;title;split\na.png;x;train\n")
    (folder / "list.tsv").write_text("image\tlabel\na.png\tcat\n")


def seed_pictures(folder: Path) -> None:
    """Every format and many modes."""
    from PIL import Image

    smooth = np.add.outer(np.arange(48), 2 * np.arange(64)).astype(np.uint8)
    colour = Image.fromarray(np.stack([smooth, smooth[::-1], smooth[:, ::-1]], axis=2))
    exif = Image.Exif()
    exif[0x0112] = 6
    colour.save(folder / "baseline.jpg", exif=exif)
    colour.save(folder / "progressive.jpg", progressive=True)
    colour.convert("CMYK").save(folder / "cmyk.jpg")
    colour.save(folder / "colour.png")
    colour.convert("P").save(folder / "palette.png", transparency=3)
    colour.convert("RGBA").save(folder / "alpha.png")
    Image.fromarray(smooth.astype(np.uint16) * 257).save(folder / "deep.png")
    colour.save(folder / "lossy.webp")
    colour.convert("RGBA").save(folder / "lossless.webp", lossless=True)
    colour.convert("P").save(folder / "still.gif")
    colour.save(folder / "moving.gif", save_all=True, append_images=[colour.rotate(90)])
    colour.save(folder / "colour.bmp")
    colour.convert("P").save(folder / "palette.bmp")
    colour.convert("L").save(folder / "grey.pgm")
    (folder / "plain.pgm").write_text("P2\n# a comment\n4 3\n255\n" + " ".join(map(str, range(12))) + "\n")
    (folder / "plain.ppm").write_text("P3 2 2 255 " + " ".join(map(str, range(12))))
    colour.convert("1").save(folder / "bits.pbm")
    colour.save(folder / "colour.tif")
    colour.save(folder / "deflated.tif", compression="tiff_deflate")
    colour.save(folder / "colour.ico", sizes=[(32, 32)])
    colour.save(folder / "colour.jp2")
    colour.save(folder / "colour.avif")
    colour.save(folder / "colour.qoi")


def seed_runs(folder: Path) -> None:
    """One run of ``isomix eval``."""
    from isomix.benchmark import runs

    record = {key: {} for key in runs.REQUIRED} | {"format": runs.FORMAT}
    record["settings"] = {"dataset": "d", "protocol": "retrieval", "method": "plain", "tier": "none"}
    (folder / "runs").mkdir()
    (folder / "runs/run.json").write_text(json.dumps(record, indent=1))


def read_embeddings(path: Path) -> None:
    """All rows and the description."""
    from isomix.store.formats import open_embeddings
    from isomix.store.inspect import inspect_path

    inspect_path(path)
    for block in open_embeddings(path).blocks(16):
        np.asarray(block.vectors).sum()


def read_clip_retrieval(path: Path) -> None:
    """Both halves."""
    from isomix.store.formats import open_embeddings

    read_embeddings(path)
    for block in open_embeddings(path, modality="text").blocks(16):
        np.asarray(block.vectors).sum()


def read_space(path: Path) -> None:
    """Load and use."""
    from isomix.spaces.base import load_space

    load_space(path).transform(vectors(4))


def read_classifier(path: Path) -> None:
    """Load and use."""
    from isomix.fewshot.persistence import load_classifier

    load_classifier(path).predict_proba(vectors(4))


def read_projectors(path: Path) -> None:
    """Load, and as a model's file."""
    from isomix import Projectors
    from isomix.store.inspect import inspect_path

    inspect_path(path)
    Projectors.from_pretrained(os.fspath(path), offline=True)
    Projectors.load(path)


def read_model(path: Path) -> None:
    """Projectors and configurations."""
    from isomix import Projectors
    from isomix.encoders import model_folder
    from isomix.store.inspect import inspect_path

    inspect_path(path)
    model_folder.read_config(path, None)
    model_folder.read_preprocessing(path, None)
    Projectors.from_pretrained(os.fspath(path), offline=True)


def read_table(path: Path) -> None:
    """Rows, vectors and ledger."""
    from isomix.store.inspect import inspect_path
    from isomix.store.table import EmbeddingTable

    table = EmbeddingTable.open(path / "photos.lance")
    table.rows()
    table.embeddings()
    table.errors()
    inspect_path(path / "photos.lance")
    inspect_path(path / "photos.errors.lance")


def read_list(path: Path) -> None:
    """The files it names."""
    from isomix.store.scan import scan

    scan(path)


def read_picture(path: Path) -> None:
    """From the file and from its bytes."""
    from isomix.encoders.images import read_image

    read_image(path, max_megapixels=20)
    read_image(path.read_bytes(), max_megapixels=20)


def read_runs(path: Path) -> None:
    """All runs."""
    from isomix.benchmark.runs import read_runs as read

    read(path)


@dataclass(frozen=True)
class Format:
    """Something that isomix reads: what makes whole examples in a folder, and what reads one."""

    seed: Callable[[Path], None]
    read: Callable[[Path], None]
    share: int = 1


FORMATS = {
    "npy": Format(seed_npy, read_embeddings, 2),
    "npz": Format(seed_npz, read_embeddings, 2),
    "fvecs": Format(seed_fvecs, read_embeddings),
    "safetensors": Format(seed_safetensors, read_embeddings, 2),
    "parquet": Format(seed_parquet, read_embeddings, 2),
    "faiss": Format(seed_faiss, read_embeddings),
    "clip-retrieval": Format(seed_clip_retrieval, read_clip_retrieval),
    "space": Format(seed_space, read_space, 2),
    "classifier": Format(seed_classifier, read_classifier, 2),
    "projectors": Format(seed_projectors, read_projectors, 2),
    "model": Format(seed_model, read_model),
    "table": Format(seed_table, read_table, 2),
    "lists": Format(seed_lists, read_list),
    "pictures": Format(seed_pictures, read_picture, 8),
    "runs": Format(seed_runs, read_runs),
}

# ---------------------------------------------------------------------- mutators

NUMBERS = (0, 1, -1, 127, 255, 256, 32767, 65535, 1 << 24, (1 << 31) - 1, -(1 << 31), 1 << 40, (1 << 63) - 1)
WORDS = (
    "-1",
    "0",
    "1e999",
    "NaN",
    "null",
    "true",
    "[]",
    "{}",
    '""',
    "[" * 3000,
    "1" * 5000,
    "99999999999",
    '"\\ud800"',
)


def damage(content: bytes, rng: random.Random) -> bytes:
    """One to four changes that know nothing of the format, but numbers and tokens of text."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        here = rng.randrange(len(data) + 1) if rng.random() < 0.5 else rng.randrange(min(len(data), 200) + 1)
        length = rng.choice((1, 2, 4, 8, 16, 100, 1000))
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[min(here, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[here : here + length] = rng.randbytes(length)
        elif kind == 2:
            del data[here : here + length]
        elif kind == 3:
            data[here:here] = data[here : here + length] * rng.choice((1, 2, 50))
        elif kind == 4:
            del data[here:]
        elif kind == 5:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(NUMBERS) % (1 << 8 * size)
            data[here : here + size] = number.to_bytes(size, rng.choice(("little", "big")))
        elif kind == 6:
            data = bytearray(damage_text(bytes(data), rng))
        else:
            there = rng.randrange(len(data) + 1)
            data[here : here + length] = data[there : there + length]
    return bytes(data[: 4 * SEED_LIMIT])


def damage_text(content: bytes, rng: random.Random) -> bytes:
    """A number, name or string of JSON-like text becomes another one."""
    tokens = list(re.finditer(rb'"[^"\n]{0,80}"|-?\d+(?:\.\d+)?|true|false|null|\w{3,40}', content[:SEED_LIMIT]))
    if not tokens:
        return content
    token = rng.choice(tokens)
    word = rng.choice(WORDS).encode() if rng.random() < 0.7 else rng.choice(tokens).group()
    return content[: token.start()] + word + content[token.end() :]


def damage_safetensors(content: bytes, rng: random.Random) -> bytes:
    """The header, with its length made right again; isomix's own header in it, too."""
    (length,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + length]
    if rng.random() < 0.6:
        with contextlib.suppress(ValueError, AttributeError, IndexError, RecursionError):
            entries = json.loads(header)
            inner = entries.get("__metadata__", {})
            if inner:
                key = rng.choice(sorted(inner))
                inner[key] = damage_text(inner[key].encode(), rng).decode(errors="replace")
                return _safetensors(json.dumps(entries).encode(), content[8 + length :])
    return _safetensors(damage_text(header, rng), content[8 + length :])


def _safetensors(header: bytes, rest: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + rest


def damage_npy(content: bytes, rng: random.Random) -> bytes:
    """The header, with its length made right again."""
    (length,) = struct.unpack("<H", content[8:10])
    header = damage_text(content[10 : 10 + length], rng)
    return content[:8] + struct.pack("<H", len(header) & 0xFFFF) + header + content[10 + length :]


def damage_npz(content: bytes, rng: random.Random) -> bytes:
    """A member, with the archive's checksum made right again."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        chosen = rng.choice(names)
        for name in names:
            member = old.read(name)
            if name == chosen:
                member = damage_npy(member, rng) if rng.random() < 0.6 else damage(member, rng)
            new.writestr(zipfile.ZipInfo(name), member)
    return target.getvalue()


def damage_png(content: bytes, rng: random.Random) -> bytes:
    """A chunk, with its length and checksum made right again; pixels are unpacked first, at times."""
    chunks, place = [], 8
    while place + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        chunks.append([kind, content[place + 8 : place + 8 + length]])
        place += 12 + length
    chosen = rng.choice(chunks)
    if chosen[0] == b"IDAT" and rng.random() < 0.5:
        chosen[1] = zlib.compress(damage(zlib.decompress(chosen[1]), rng))
    elif rng.random() < 0.2:
        chunks.extend([rng.choice(chunks)] * rng.choice((1, 100)))
    else:
        chosen[1] = damage(chosen[1], rng)
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return content[:8] + body


def damage_jpeg(content: bytes, rng: random.Random) -> bytes:
    """A segment repeated or left out: many scans, many tables."""
    marks = [match.start() for match in re.finditer(rb"\xff[\xc0-\xcf\xda-\xef]", content)]
    here, there = sorted((rng.choice(marks), rng.choice([*marks, len(content) - 2])))
    return content[:here] + content[here:there] * rng.choice((0, 2, 30)) + content[there:]


KNOWING = {
    ".safetensors": damage_safetensors,
    ".npy": damage_npy,
    ".npz": damage_npz,
    ".png": damage_png,
    ".jpg": damage_jpeg,
    ".json": damage_text,
    ".csv": damage_text,
}


def damaged_file(path: Path, rng: random.Random) -> None:
    """Damage a file where it lies."""
    content = path.read_bytes()
    knowing = KNOWING.get(path.suffix)
    if knowing is not None and rng.random() < 0.5:
        # What was damaged before, in a corpus, may no longer have the parts that it looks for.
        with contextlib.suppress(
            struct.error, ValueError, IndexError, zipfile.BadZipFile, zlib.error, KeyError, OSError
        ):
            path.write_bytes(knowing(content, rng))
            return
    path.write_bytes(damage(content, rng))


def make_input(seeds: Path, corpus: Path | None, target: Path, rng: random.Random) -> Path:
    """Copy one seed and damage it: a file, or one or two files of a folder."""
    choices = sorted(seeds.iterdir())
    kept = sorted(corpus.iterdir()) if corpus is not None and corpus.is_dir() else []
    seed = rng.choice(kept) if kept and rng.random() < 0.5 else rng.choice(choices)
    path = target / seed.name.split("~")[-1]
    if seed.is_file():
        shutil.copyfile(seed, path)
        damaged_file(path, rng)
        return path
    shutil.copytree(seed, path)
    for _ in range(rng.choice((1, 1, 2))):
        file = rng.choice(sorted(each for each in path.rglob("*") if each.is_file()) or [None])
        if file is None:
            break
        if rng.random() < 0.1:
            file.unlink()
        else:
            damaged_file(file, rng)
    return path


# ---------------------------------------------------------------------- one case, in a child


def outcome(read: Callable[[Path], None], path: Path) -> tuple[str, str]:
    """``("read" | "refused" | "failure", what)``; ``what`` has no numbers and no paths, so that the like are like."""
    from isomix.errors import IsomixError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
    except IsomixError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                return "failure", f"more than {MEMORY >> 20} MiB asked for: {error}"
            cause = cause.__cause__ or cause.__context__
        return "refused", f"{type(error).__name__}: {error}"
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        return "failure", "".join(traceback.format_exception(error))[-3000:]
    return "read", ""


def alike(what: str) -> str:
    """The message without what differs between two cases of one kind."""
    return re.sub(r"0x[0-9a-f]+|\d+|'[^']*'|\S*/\S*|[^\x20-\x7e]", "", what)[:160]


def child(name: str, seeds: Path, corpus: Path | None) -> None:
    """Read numbers of cases from standard input, and answer each with one line of JSON."""
    spec = FORMATS[name]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    for seed in sorted((seeds / name).iterdir()):  # imports and pools of threads come before the limit on memory
        result = outcome(spec.read, seed)
        if result[0] != "read":
            answers.write(json.dumps({"kind": "failure", "what": f"the seed {seed.name} itself: {result[1]}"}) + "\n")
    limit = _mapped() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    met: set[str] = set()
    answers.write(json.dumps({"kind": "ready"}) + "\n")
    answers.flush()
    for line in sys.stdin:
        number = int(line)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = make_input(seeds / name, corpus, Path(folder), random.Random(f"{name}:{number}"))
            kind, what = outcome(spec.read, path)
            if corpus is not None and kind != "failure" and alike(what) not in met:
                met.add(alike(what))
                _keep(path, corpus / f"{zlib.crc32(alike(what).encode()):08x}~{path.name}")
        answers.write(json.dumps({"kind": kind, "what": what.replace(folder, "")}) + "\n")
        answers.flush()


def _mapped() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _keep(path: Path, target: Path) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, target)


# ---------------------------------------------------------------------- many cases


@dataclass
class Child:
    """A process that reads cases of one format."""

    name: str
    process: subprocess.Popen[str]
    number: int = -1
    began: float = 0.0
    processor: float = 0.0

    def used(self) -> float:
        """Seconds of processor time since the case began."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") - self.processor


@dataclass
class Tally:
    """What became of the cases of one format."""

    read: int = 0
    refused: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def cases(self) -> int:
        """How many there were."""
        return self.read + self.refused + self.failures.total()


class Fuzzer:
    """Seeds in a folder of their own, one child at a time, and the account.

    Parameters
    ----------
    output : Path
        Where failures and the corpus go.
    corpus : bool
    """

    def __init__(self, output: Path, corpus: bool = False) -> None:
        self.output, self.corpus = output, corpus
        self.seeds = Path(tempfile.mkdtemp(prefix="isomix-fuzz-"))
        self.tallies: dict[str, Tally] = {}

    def close(self) -> None:
        """Remove the seeds."""
        shutil.rmtree(self.seeds, ignore_errors=True)

    def _corpus(self, name: str) -> Path | None:
        return self.output.resolve() / "corpus" / name if self.corpus else None

    def start(self, name: str) -> Child:
        """A child that has imported what it needs."""
        if not (self.seeds / name).exists():
            (self.seeds / name).mkdir()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                FORMATS[name].seed(self.seeds / name)
        command = [sys.executable, __file__, "--child", name, "--seeds", os.fspath(self.seeds)]
        command += ["--corpus-folder", os.fspath(self._corpus(name))] if self.corpus else []
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        started = Child(name, process)
        while (answer := self._answer(started, 300.0)) is not None and answer["kind"] != "ready":
            self._fail(name, -1, answer["what"])
        return started

    def _answer(self, worker: Child, limit: float) -> dict[str, Any] | None:
        """The next line of a child; None when it died or was killed for its time."""
        import select

        worker.began = time.monotonic()
        worker.processor = 0.0
        worker.processor = worker.used()
        output = worker.process.stdout
        if output is None:
            return None
        while not select.select([output], [], [], 0.5)[0]:
            if worker.used() > limit or time.monotonic() - worker.began > 10 * limit:
                worker.process.kill()
                worker.process.wait()
                return None
        line = output.readline()
        return json.loads(line) if line else None

    def run(self, name: str, numbers: Iterator[int], until: float = float("inf")) -> None:
        """Cases of one format, until a time of the monotonic clock."""
        tally = self.tallies.setdefault(name, Tally())
        worker = self.start(name)
        started = time.monotonic()
        for number in numbers:
            if time.monotonic() > until:
                break
            if worker.process.stdin is None:
                break
            worker.process.stdin.write(f"{number}\n")
            worker.process.stdin.flush()
            answer = self._answer(worker, SECONDS)
            if answer is None:
                code = worker.process.wait()
                took = time.monotonic() - worker.began
                what = f"no answer in {SECONDS:g} s of processor time" if code == -9 else f"the child died, code {code}"
                self._fail(name, number, f"{what} ({took:.0f} s)")
                self._close(worker)
                worker = self.start(name)
            elif answer["kind"] == "failure":
                self._fail(name, number, answer["what"])
            elif answer["kind"] == "refused":
                tally.refused += 1
            else:
                tally.read += 1
        tally.seconds += time.monotonic() - started
        self._close(worker)

    def _close(self, worker: Child) -> None:
        for stream in (worker.process.stdin, worker.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        worker.process.wait(60)

    def _fail(self, name: str, number: int, what: str) -> None:
        tally = self.tallies.setdefault(name, Tally())
        last = alike(what.strip().splitlines()[-1])
        tally.failures[last] += 1
        if tally.failures[last] > 3:
            return
        print(f"FAILURE {name} {number}: {what.strip()}")
        print(f"  again: python tools/fuzz.py --format {name} --first {number} --cases 1", flush=True)
        if number >= 0:
            target = self.output / "failures" / f"{name}-{number}"
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            make_input(self.seeds / name, self._corpus(name), target, random.Random(f"{name}:{number}"))

    def report(self) -> int:
        """Print the account; returns how many cases failed."""
        print(f"{'format':<16}{'cases':>8}{'read':>8}{'refused':>9}{'failed':>8}{'ms a case':>11}")
        rows = list(self.tallies.items())
        for name, tally in rows:
            pace = 1000 * tally.seconds / max(1, tally.cases)
            failed = tally.failures.total()
            print(f"{name:<16}{tally.cases:>8,}{tally.read:>8,}{tally.refused:>9,}{failed:>8,}{pace:>11.1f}")
        tallies = [tally for _, tally in rows]
        total = [sum(values) for values in zip(*((t.cases, t.read, t.refused, t.failures.total()) for t in tallies))]
        print(f"{'all':<16}{total[0]:>8,}{total[1]:>8,}{total[2]:>9,}{total[3]:>8,}")
        return total[3]


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, report; 1 when a case failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000, help="of all formats together, by their shares")
    parser.add_argument("--seconds", type=float, help="instead of a number of cases")
    parser.add_argument("--format", action="append", choices=sorted(FORMATS))
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each format")
    parser.add_argument("--output", type=Path, default=Path("fuzz-output"))
    parser.add_argument("--corpus", action="store_true", help="keep inputs that end in new ways, and damage those too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--corpus-folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        child(given.child, given.seeds, given.corpus_folder)
        return 0
    names = given.format or list(FORMATS)
    shares = sum(FORMATS[name].share for name in names)
    fuzzer = Fuzzer(given.output, given.corpus)
    try:
        for name in names:
            share = FORMATS[name].share / shares
            if given.seconds is None:
                fuzzer.run(name, iter(range(given.first, given.first + round(given.cases * share))))
            else:
                until = time.monotonic() + given.seconds * share
                fuzzer.run(name, iter(range(given.first, sys.maxsize)), until)
        return min(1, fuzzer.report())
    finally:
        fuzzer.close()


if __name__ == "__main__":
    sys.exit(main())
