"""Whole examples of every format that isomix reads, and what reads them: the seeds of ``tools/fuzz.py``."""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

ADAPTED = (".npy", ".npz", ".fvecs", ".safetensors", ".parquet", ".index")


def vectors(rows: int = 40, width: int = 16, dtype: Any = np.float32) -> Any:
    """Unit rows, always the same."""
    matrix = np.random.default_rng(0).standard_normal((rows, width))
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(dtype)


def seed_npy(folder: Path) -> None:
    """One matrix of each precision, one of them in the order of Fortran; a folder of two."""
    (folder / "parts").mkdir()
    for part in range(2):
        np.save(folder / f"parts/part-{part}.npy", vectors(10, 8))
    np.save(folder / "half.npy", vectors(dtype=np.float16))
    np.save(folder / "single.npy", vectors())
    np.save(folder / "fortran.npy", np.asfortranarray(vectors(dtype=np.float64)))


def seed_npz(folder: Path) -> None:
    """Stored and deflated, with a second array."""
    np.savez(folder / "stored.npz", features=vectors(), labels=np.arange(40))
    np.savez_compressed(
        folder / "deflated.npz", features=vectors(dtype=np.float16), paths=np.array([f"{i}.png" for i in range(40)])
    )


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
    """Lists of a variable and of a fixed length, with and without compression; a folder of two files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f"n{i}" for i in range(40)]
    pq.write_table(pa.table({"name": names, "emb": list(vectors())}), folder / "lists.parquet", compression="none")
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(vectors().ravel()), 16)
    pq.write_table(pa.table({"name": names, "emb": fixed}), folder / "fixed.parquet")
    (folder / "parts").mkdir()
    for part in range(2):
        pq.write_table(pa.table({"name": names, "emb": fixed}), folder / f"parts/part-{part}.parquet")


def seed_faiss(folder: Path) -> None:
    """Flat indexes: of both usual metrics, of one with an argument, and, where faiss is there, under ids and a graph."""
    for name, code, metric in (("inner", b"IxFI", 0), ("euclidean", b"IxF2", 1), ("power", b"IxFl", 4)):
        head = code + struct.pack("<iqqqBi", 16, 40, 1 << 20, 1 << 20, 1, metric)
        head += (struct.pack("<f", 3.0) if metric > 1 else b"") + struct.pack("<Q", 640)
        (folder / f"{name}.index").write_bytes(head + vectors().tobytes())
    with contextlib.suppress(ImportError):
        import faiss

        ids = faiss.IndexIDMap2(faiss.IndexHNSWFlat(16, 4))
        ids.add_with_ids(vectors(), np.arange(100, 140))
        faiss.write_index(ids, str(folder / "ids.faiss"))


def seed_lance(folder: Path) -> None:
    """A Lance table that isomix did not make, in two fragments."""
    import lance
    import pyarrow as pa

    fixed = pa.FixedSizeListArray.from_arrays(pa.array(vectors(20).ravel()), 16)
    rows = pa.table({"path": [f"{i}.png" for i in range(20)], "vector": fixed})
    for mode in ("create", "append"):
        lance.write_dataset(rows, folder / "theirs.lance", mode=mode)


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


def seed_adapted(folder: Path) -> None:
    """Vectors that isomix has adapted, in every layout, with columns and the record of the space beside or inside them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from isomix import IsoCLIP
    from isomix.store import adapt

    folder.joinpath("adapted").mkdir()
    space = IsoCLIP(projectors(), band=(2, 2)).fit()
    columns = {"path": [f"{i}.png" for i in range(40)], "size": list(range(40)), "emb": list(vectors())}
    pq.write_table(pa.table(columns), folder / "plain.parquet")
    for ending in ADAPTED:
        adapt(folder / "plain.parquet", folder / "adapted" / f"adapted{ending}", space)
    folder.joinpath("plain.parquet").unlink()


def seed_space(folder: Path) -> None:
    """One of every kind."""
    from isomix import IsoCLIP, spaces

    fitted = {
        "isoclip": IsoCLIP(projectors(), band=(2, 2)).fit(),
        "text-isoclip": IsoCLIP(projectors(), band=(2, 2), modality="text").fit(),
        "text-pca": spaces.TextPCA(4).fit(vectors()),
        "projected": spaces.TextPCA(4, projectors=projectors()).fit(vectors()),
        "nested": spaces.NestedTextPCA(projectors=projectors()).fit(vectors()),
        "pca": spaces.PCAWhitening(8).fit(vectors()),
        "zca": spaces.ZCAWhitening(shrinkage=0.1).fit(vectors()),
        "plain": spaces.Plain().fit(vectors()),
        "random": spaces.RandomDirections(8).fit(vectors()),
    }
    for name, space in fitted.items():
        space.save(folder / f"{name}.safetensors")


def seed_classifier(folder: Path) -> None:
    """One of every kind, some with calibrated probabilities, a class without pictures, and labels that are numbers."""
    from isomix.fewshot import CLASSIFIERS

    text = dict(enumerate(vectors(5)))
    for name, kind in CLASSIFIERS.items():
        labels: Any = np.arange(40) % (4 if name == "lda" else 5)
        text_of = text
        if name in ("project-and-mix", "timo"):
            labels, text_of = labels.astype(str), {str(label): row for label, row in text.items()}
        kind().fit(vectors(), labels, text=text_of).save(folder / f"{name}.safetensors")
    kind = CLASSIFIERS["project-and-mix"]
    kind(calibrate=True).fit(vectors(), np.arange(40) % 4, text=text).save(folder / "calibrated.safetensors")
    rng = np.random.default_rng(3)
    noisy = vectors(4)[np.arange(404) % 4] + 0.3 * rng.standard_normal((404, 16)).astype(np.float32)
    pooled = kind().fit(noisy[:4], np.arange(4), text=dict(enumerate(vectors(4))), unlabelled=noisy[4:])
    pooled.save(folder / "pooled.safetensors")


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

    two = folder / "split"
    two.mkdir()
    save_file({"visual_projection.weight": pair.image}, two / "model-00001-of-00002.safetensors")
    save_file({"text_projection.weight": pair.text}, two / "model-00002-of-00002.safetensors")
    parts = {
        name: f"model-0000{i}-of-00002.safetensors"
        for i, name in ((1, "visual_projection.weight"), (2, "text_projection.weight"))
    }
    (two / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    (two / "config.json").write_text(
        json.dumps({"model_type": "clip", "_name_or_path": "openai/clip-vit-base-patch16"})
    )
    (two / "processor_config.json").write_text(
        json.dumps({"image_processor": {**processor, "rescale_factor": 1 / 255}})
    )

    other = folder / "siglip"
    other.mkdir()
    rng = np.random.default_rng(2)
    shapes = {"layernorm": {"weight": (16,), "bias": (16,)}, "mlp.fc1": {"weight": (8, 16), "bias": (8,)}}
    shapes["mlp.fc2"] = {"weight": (16, 8), "bias": (16,)}
    tensors = {
        f"vision_model.head.{layer}.{part}": rng.standard_normal(shape).astype(np.float32)
        for layer, parts in shapes.items()
        for part, shape in parts.items()
    }
    tensors |= {"text_model.head.weight": pair.text, "text_model.head.bias": np.ones(16, np.float32)}
    save_file(tensors | {"logit_scale": np.array([4.6], np.float16)}, other / "model.safetensors")
    sizes = {
        "do_center_crop": False,
        "size": {"height": 224, "width": 224},
        "resample": 3,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (other / "config.json").write_text(json.dumps({"model_type": "siglip"}))
    (other / "preprocessor_config.json").write_text(json.dumps(sizes))


def seed_hub(folder: Path) -> None:
    """The cache of the hub with a model in it, and the one that isomix keeps projectors in."""
    commit = "0123456789abcdef" * 2 + "01234567"
    model = folder / "cache/huggingface/hub/models--org--model"
    (model / "refs").mkdir(parents=True)
    (model / "refs/main").write_text(commit)
    (model / "snapshots" / commit).mkdir(parents=True)
    projectors().save(model / "snapshots" / commit / "model.safetensors")
    kept = folder / "cache/isomix/projectors/org--kept"
    kept.mkdir(parents=True)
    (kept / "main.commit").write_text(commit)
    projectors().save(kept / f"{commit}.safetensors")


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


def seed_beside(folder: Path) -> None:
    """What lies beside a table: labels and votes, thumbnails, and the note of a run that was killed."""
    from PIL import Image

    from isomix.store.side_file import SideFile, Vote
    from isomix.store.thumbnails import Thumbnails, make_thumbnail

    (folder / "beside").mkdir()
    table = folder / "beside" / "photos.lance"
    said = SideFile(table)
    said.add_class("cat")
    said.label(["0" * 32, "1" * 32], "dog")
    said.rename_class("dog", "wolf")
    said.vote(Vote("row:1", "isoclip 2/2", "adapted"))
    said.judge("0" * 32, "1" * 32, "same")
    small = make_thumbnail(Image.new("RGB", (120, 90), (10, 200, 30)))
    Thumbnails(table).put({f"{i:064x}": small for i in range(3)})
    note = {"version": 1, "rows": 2, "failures": [["e" * 32, "broken.png", 3, 4, "no picture"]]}
    (folder / "beside" / ".photos.lance.lock").write_text(json.dumps(note))


def seed_arrays(folder: Path) -> None:
    """Data sets of ``isomix eval`` that bring their embeddings, in both forms, and banks of texts."""
    labels = np.arange(40) % 4
    names = np.array(["cat", "dog", "owl", "rat"])
    split = np.array(["train", "test"] * 20)
    whole = {"embeddings": vectors(), "labels": labels, "split": split, "class_names": names, "text": vectors(4)}
    np.savez(folder / "whole.npz", **whole, features=vectors(width=24))
    parts = {f"{part}_labels": names[labels] for part in ("train", "test")}
    np.savez_compressed(folder / "parts.npz", train=vectors(), test=vectors()[::-1], **parts, text=vectors(4)[:, None])
    np.savez(folder / "bank.npz", text=vectors(dtype=np.float16))
    np.save(folder / "bank.npy", vectors())


def seed_datasets(folder: Path) -> None:
    """The lists of published data sets, small ones."""
    import pickle

    for place in (
        *(
            "CUB_200_2011/CUB_200_2011/images/0",
            "roxford5k/roxford5k/jpg",
            "rparis6k/rparis6k/jpg",
            "eurosat/eurosat/2750",
        ),
        *("fgvc_aircraft/fgvc_aircraft/images", "places365/places365/val_256"),
        *("imagenet/imagenet/images/train/n0", "imagenet/imagenet/images/val/n0"),
    ):
        (folder / place).mkdir(parents=True)
        for i in range(3):
            (folder / place / f"{i}.jpg").touch()
    cub = folder / "CUB_200_2011" / "CUB_200_2011"
    for file, values in {
        "classes.txt": ["001.Cat", "002.Red_Dog"],
        "images.txt": ["0/0.jpg", "0/1.jpg", "0/2.jpg"],
        "image_class_labels.txt": [1, 2, 2],
        "train_test_split.txt": [1, 0, 1],
    }.items():
        (cub / file).write_text("".join(f"{i} {value}\n" for i, value in enumerate(values, 1)))
    truth = {"imlist": ["1", "2"], "qimlist": ["0"]}
    rows = [{"easy": [0], "hard": [1], "junk": [], "bbx": [1.0, 2.0, 30.0, 40.0]}]
    (folder / "roxford5k/roxford5k/gnd_roxford5k.json").write_text(json.dumps({**truth, "gnd": rows}))
    arrays = [{name: np.array(value) for name, value in row.items()} for row in rows]
    (folder / "rparis6k/rparis6k/gnd_rparis6k.pkl").write_bytes(pickle.dumps({**truth, "gnd": arrays}, protocol=4))
    rows = {"train": [["0.jpg", 0, "River"]], "val": [["1.jpg", 1, "Forest"]], "test": [["2.jpg", 1, "Forest"]]}
    (folder / "eurosat/eurosat/split_zhou_EuroSAT.json").write_text(json.dumps(rows))
    (folder / "fgvc_aircraft/fgvc_aircraft/variants.txt").write_text("707\nA 320\n")
    for part, line in (("train", "0 707"), ("val", "1 A 320"), ("test", "2 A 320")):
        (folder / f"fgvc_aircraft/fgvc_aircraft/images_variant_{part}.txt").write_text(f"{line}\n")
    (folder / "places365/places365/categories_places365.txt").write_text("/a/airfield 0\n/b/bow_window/indoor 1\n")
    (folder / "places365/places365/places365_val.txt").write_text("0.jpg 0\n1.jpg 1\n2.jpg 1\n")
    (folder / "imagenet/imagenet/classnames.txt").write_text("n0 tench\n")
    captions = {"images": [{"split": "val", "sentences": [{"raw": "a cat"}, {"raw": "a dog "}]}] * 2}
    (folder / "flickr30k/flickr30k").mkdir(parents=True)
    (folder / "flickr30k/flickr30k/dataset_flickr30k.json").write_text(json.dumps(captions))
    notes = [{"image_id": i, "caption": "a cat"} for i in (7, 7, 8)]
    (folder / "nocaps/nocaps").mkdir(parents=True)
    content = {"images": [{"id": 7}, {"id": 8}], "annotations": notes}
    (folder / "nocaps/nocaps/nocaps_val_4500_captions.json").write_text(json.dumps(content))


def seed_lists(folder: Path) -> None:
    """Lists of paths on disk and on standard input, CSV files, sentences and names of classes."""
    (folder / "standard.input").write_bytes(b"a.png\0b/c d.jpg\0")
    (folder / "sentences.queries").write_text("a cat on a sofa\nein Hund\n")
    (folder / "names.names").write_text('label,name\nn01,cat\nn02,"dog, wet"\n')
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
    """Three runs of ``isomix eval`` for every task."""
    from isomix.benchmark import runs
    from isomix.benchmark.protocols import Outcome

    about = {"model": "openai/clip-vit-base-patch32", "pretrained": "hf", "backbone": "hf:openai/clip-vit-base-patch32"}
    for task, (figure, _) in runs.HEADLINE.items():
        saved = runs.RunFolder(folder / "runs")
        few = {"shots": 4, "seed": 1, "tier": "leave-one-out"} if task == "fewshot" else {}
        details = (
            {"latency": {"median_ms": 1.5, "ratio_to_plain": 1.1, "measured": "one query"}} if "image" in task else {}
        )
        outcome = Outcome({figure: 0.5, "intervals": {figure: (0.4, 0.6)}}, details)
        for method in ("plain", "isoclip:2/2", "isoclip:4/2"):
            settings = {"dataset": "dtd", "task": task, "method": method, **few, "data_fingerprint": "a"}
            saved.run(settings, lambda found=outcome: found, about)


def read_embeddings(path: Path) -> None:
    """All rows with their columns, and the description; a file of arrays also whole, as queries and data sets are read."""
    from isomix.store import duplicates
    from isomix.store.formats import open_embeddings
    from isomix.store.formats.npy import load_npy, load_npz
    from isomix.store.inspect import inspect_path

    if path.suffix != ".lance":
        inspect_path(path)
    for block in open_embeddings(path).blocks(16):
        np.asarray(block.vectors).sum()
    duplicates._read(path, None)
    if path.suffix in (".npy", ".npz"):
        (load_npy if path.suffix == ".npy" else load_npz)(path)


def read_adapted(path: Path) -> None:
    """All files of the folder, and put another one in the place of the first, beside its record."""
    from isomix.spaces import Plain
    from isomix.store import adapt

    for ending in ADAPTED:
        read_embeddings(path / f"adapted{ending}")
    np.save(path / "new.npy", vectors())
    adapt(path / "new.npy", path / "adapted.npy", Plain().fit(vectors()), overwrite=True)


def read_clip_retrieval(path: Path) -> None:
    """Both halves."""
    from isomix.store.formats import open_embeddings

    read_embeddings(path)
    for block in open_embeddings(path, modality="text").blocks(16):
        np.asarray(block.vectors).sum()


def read_space(path: Path) -> None:
    """Load, use and save."""
    from isomix.spaces.base import load_space

    space = load_space(path)
    space.transform(vectors(4))
    space.save(path)


def read_classifier(path: Path) -> None:
    """Load, use, save, and teach one more picture."""
    from isomix.fewshot.persistence import load_classifier

    classifier = load_classifier(path)
    classifier.predict_proba(vectors(4))
    classifier.save(path)
    classifier.partial_fit(vectors(5)[4:], classifier.classes_[:1])


def read_projectors(path: Path) -> None:
    """Load, as a model's file too, and as what a band is cut from."""
    from isomix import Projectors
    from isomix.spaces.operator import InterModalOperator
    from isomix.store.inspect import inspect_path

    inspect_path(path)
    Projectors.from_pretrained(os.fspath(path), offline=True)
    InterModalOperator(Projectors.load(path))


def read_model(path: Path) -> None:
    """Projectors and configurations."""
    from isomix import Projectors
    from isomix.encoders import model_folder
    from isomix.spaces.recognition import find_preset
    from isomix.store.inspect import inspect_path

    inspect_path(path)
    model_folder.read_config(path, None)
    model_folder.read_preprocessing(path, None)
    for text_only in (False, True, None):
        find_preset(Projectors.from_pretrained(os.fspath(path), offline=True, text_only=text_only))


def read_hub(path: Path) -> None:
    """A model by its id, offline, from either cache."""
    from isomix import Projectors

    os.environ.pop("HF_HUB_CACHE", None)
    os.environ.update(XDG_CACHE_HOME=os.fspath(path), HF_HOME=os.fspath(path / "huggingface"))
    Projectors.from_pretrained("hf:org/model", offline=True)
    Projectors.from_pretrained("hf:org/kept", offline=True)


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


def read_beside(path: Path) -> None:
    """Labels and votes, and one more of them; all thumbnails, drawn; the note, and the ledger that it completes."""
    from types import SimpleNamespace

    from isomix.store.journal import Journal
    from isomix.store.ledger import Ledger
    from isomix.store.side_file import SideFile
    from isomix.store.thumbnails import Thumbnails
    from isomix.web.pictures import Pictures

    table = path / "photos.lance"
    said = SideFile(table)
    for found in (said.classes, said.labels, said.votes, said.verdicts, said.revision):
        json.dumps(found if not isinstance(found, dict) else list(found.items()), default=vars)
    said.label(["2" * 32], "owl")
    said.remove_class("wolf")
    keys = [f"{i:064x}" for i in range(3)]
    thumbnails = Thumbnails(table)
    len(thumbnails)
    nothing = SimpleNamespace(hashes=keys, ids=keys, file=lambda row: (None, "gone"))
    Pictures(thumbnails).sheet(nothing, [0, 1, 2])
    thumbnails.keep_only(keys[:1])
    with Journal(table) as journal:
        journal.recover(SimpleNamespace(version=2, ledger=Ledger(table)))


def read_arrays(path: Path) -> None:
    """A data set, or a bank of texts."""
    from isomix.benchmark.banks import bank_identity, read_bank
    from isomix.benchmark.datasets import open_dataset
    from isomix.store import bank

    if path.stem == "bank":
        bank_identity(path)
        read_bank(path, None)
        bank.read_bank(path)
    else:
        open_dataset(f"arrays:{path}").with_test_split().fingerprint()


def read_dataset(path: Path) -> None:
    """Its lists, without the count of the published set."""
    from isomix.benchmark.datasets import DATASETS

    (dataset,) = (each for each in DATASETS.values() if each.folder == path.name)
    replace(dataset, expected={}).load(path)


def read_list(path: Path) -> None:
    """The files that it names; sentences; names of classes."""
    import typer

    from isomix.cli.fit import _read_names
    from isomix.errors import InputError
    from isomix.store.bank import read_bank
    from isomix.store.scan import first_pictures, scan

    if path.suffix == ".queries":
        read_bank(path)
    elif path.suffix == ".names":
        try:
            _read_names(path)
        except typer.BadParameter as error:  # the command line's own way to refuse
            raise InputError(str(error)) from error
    elif path.suffix == ".input":
        sys.stdin, terminal = io.TextIOWrapper(io.BytesIO(path.read_bytes())), sys.stdin
        try:
            scan("-")
        finally:
            sys.stdin = terminal
    else:
        first_pictures(path, 3)
        scan(path)


def read_picture(path: Path) -> None:
    """From the file and from its bytes, and as the studio takes an upload."""
    from isomix.encoders.images import read_image
    from isomix.errors import ImageError
    from isomix.web.pictures import read_upload

    with contextlib.suppress(ImageError):
        read_upload(path.read_bytes())
    read_image(path, max_megapixels=20)
    read_image(path.read_bytes(), max_megapixels=20)


def read_runs(path: Path) -> None:
    """All runs, and their tables."""
    from isomix.benchmark.rendering import render
    from isomix.benchmark.runs import read_runs as read
    from isomix.benchmark.tables import lay_out

    render(lay_out(read(path), against="paper"), "markdown")


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
    "lance": Format(seed_lance, read_embeddings),
    "clip-retrieval": Format(seed_clip_retrieval, read_clip_retrieval),
    "adapted": Format(seed_adapted, read_adapted, 2),
    "space": Format(seed_space, read_space, 2),
    "classifier": Format(seed_classifier, read_classifier, 3),
    "projectors": Format(seed_projectors, read_projectors, 2),
    "model": Format(seed_model, read_model, 2),
    "hub": Format(seed_hub, read_hub),
    "table": Format(seed_table, read_table, 2),
    "beside": Format(seed_beside, read_beside, 2),
    "arrays": Format(seed_arrays, read_arrays),
    "datasets": Format(seed_datasets, read_dataset, 2),
    "lists": Format(seed_lists, read_list),
    "pictures": Format(seed_pictures, read_picture, 8),
    "runs": Format(seed_runs, read_runs),
}
