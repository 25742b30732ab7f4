"""Every data set on a small copy in its true layout, and what is said of copies that are wrong."""

from __future__ import annotations

import csv
import json
import pickle
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isomix.benchmark.datasets import DATASETS, Captions, Pictures, open_dataset
from isomix.benchmark.datasets.coop import CoOpSplit
from isomix.benchmark.datasets.instances import read_ground_truth
from isomix.benchmark.samples import Samples, stratified_halves
from isomix.errors import FileFormatError, InputError, IsomixWarning


def touch(root: Path, *paths: str) -> None:
    """Empty files: loading looks at names only."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def make_coop(folder: Path, dataset: CoOpSplit) -> dict[str, int]:
    items = {
        split: [
            [f"{name}/{split}_{i}.jpg", label, name] for label, name in enumerate(("blue_cup", "key")) for i in range(n)
        ]
        for split, n in (("train", 3), ("val", 2), ("test", 1))
    }
    folder.mkdir(parents=True)
    (folder / dataset.split_file).write_text(json.dumps(items))
    touch(folder / dataset.images, *(path for split in items.values() for path, _, _ in split))
    return {"train": 6, "val": 4, "test": 2, "classes": 2}


def make_aircraft(folder: Path) -> dict[str, int]:
    folder.mkdir()
    (folder / "variants.txt").write_text("707-320\nA380\n")
    for number, split in enumerate(("train", "val", "test")):
        (folder / f"images_variant_{split}.txt").write_text(f"100{number} 707-320\n200{number} A380\n")
        touch(folder / "images", f"100{number}.jpg", f"200{number}.jpg")
    return {"train": 2, "val": 2, "test": 2, "classes": 2}


def make_imagenet(folder: Path) -> dict[str, int]:
    folder.mkdir()
    (folder / "classnames.txt").write_text("n02 great white shark\nn01 tench\n")
    touch(
        folder / "images",
        "train/n01/b.JPEG",
        "train/n01/a.JPEG",
        "train/n02/c.JPEG",
        "val/n01/d.JPEG",
        "val/n02/e.JPEG",
    )
    return {"train": 3, "test": 2, "classes": 2}


def make_cub(folder: Path) -> dict[str, int]:
    folder.mkdir()
    names = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
    files = [f"{name}/{i}.jpg" for name in names for i in range(2)]
    lists = {
        "classes.txt": names,
        "images.txt": files,
        "image_class_labels.txt": ["1", "1", "2", "2"],
        "train_test_split.txt": ["1", "0", "1", "0"],
    }
    for name, values in lists.items():
        (folder / name).write_text("".join(f"{i} {value}\n" for i, value in enumerate(values, 1)))
    touch(folder / "images", *files)
    return {"train": 2, "test": 2, "classes": 2}


def make_places(folder: Path) -> dict[str, int]:
    folder.mkdir()
    (folder / "categories_places365.txt").write_text("/a/airfield 0\n/a/apartment_building/outdoor 1\n")
    (folder / "places365_val.txt").write_text("v_1.jpg 1\nv_2.jpg 0\n")
    touch(folder / "val_256", "v_1.jpg", "v_2.jpg")
    return {"val": 2, "classes": 2}


def make_inaturalist(folder: Path) -> dict[str, int]:
    touch(
        folder / "train_mini",
        "00000_Animalia_A_B_C_D_Lumbricus_terrestris/x.jpg",
        "00001_Plantae_A_B_C_D_Rosa_canina/y.jpg",
    )
    return {"train": 2, "classes": 2}


LANDMARKS = {
    "imlist": ["d_0", "d_1", "d_2"],
    "qimlist": ["q_0"],
    "gnd": [{"bbx": [1, 2, 30, 40], "easy": [0], "hard": [2], "junk": [1]}],
}


def make_landmarks(folder: Path) -> dict[str, int]:
    folder.mkdir()
    arrays = [{name: np.array(values) for name, values in LANDMARKS["gnd"][0].items()}]
    (folder / f"gnd_{folder.name}.pkl").write_bytes(pickle.dumps({**LANDMARKS, "gnd": arrays}, protocol=2))
    touch(folder / "jpg", "q_0.jpg", "d_0.jpg", "d_1.jpg", "d_2.jpg")
    return {"query": 1, "gallery": 3}


def make_karpathy(folder: Path) -> dict[str, int]:
    folder.mkdir()
    split = DATASETS[folder.name].split  # type: ignore[attr-defined]
    images = [{"split": s, "sentences": [{"raw": f" {s} {i} "} for i in range(2)]} for s in (split, "train", split)]
    (folder / f"dataset_{folder.name}.json").write_text(json.dumps({"images": images}))
    return {"captions": 4, "images": 2}


def make_nocaps(folder: Path) -> dict[str, int]:
    folder.mkdir()
    notes = [{"image_id": image, "caption": f"{image} {i}"} for i in range(2) for image in (7, 3)]
    content = {"images": [{"id": 7}, {"id": 3}], "annotations": notes}
    (folder / "nocaps_val_4500_captions.json").write_text(json.dumps(content))
    return {"captions": 4, "images": 2}


MAKERS: dict[str, Callable[[Path], dict[str, int]]] = {
    "fgvc_aircraft": make_aircraft,
    "imagenet": make_imagenet,
    "cub2011": make_cub,
    "places365": make_places,
    "inaturalist2021": make_inaturalist,
    "roxford5k": make_landmarks,
    "rparis6k": make_landmarks,
    "flickr30k": make_karpathy,
    "coco": make_karpathy,
    "nocaps": make_nocaps,
}


@pytest.fixture
def small(tmp_path: Path) -> Callable[[str], tuple]:
    """A small copy of a data set below ``tmp_path``, and the data set that expects its counts."""

    def make(name: str) -> tuple:
        dataset = DATASETS[name]
        folder = tmp_path / dataset.folder
        counts = make_coop(folder, dataset) if isinstance(dataset, CoOpSplit) else MAKERS[name](folder)
        assert set(counts) == set(dataset.expected), "the factory makes the splits of the published set"
        return replace(dataset, expected=counts), folder

    return make


@pytest.mark.parametrize("name", DATASETS)
def test_a_copy_in_the_true_layout_is_read(small, tmp_path: Path, name: str) -> None:
    dataset, _ = small(name)
    found = dataset.load(tmp_path)
    assert found.counts() == dataset.expected
    if isinstance(found, Pictures):
        assert all((found.root / path).is_file() for path in found.paths)
        assert all("{}" in template for template in found.templates)
        assert not any("_" in spoken for spoken in found.class_names)


@pytest.mark.parametrize("name", DATASETS)
def test_published_counts_are_verified(small, tmp_path: Path, name: str) -> None:
    _, folder = small(name)
    with pytest.raises(InputError, match=r"not those of the published set: .* expected") as caught:
        DATASETS[name].load(tmp_path)
    for count in DATASETS[name].expected.values():
        assert f"{count:,}" in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", DATASETS)
def test_an_absent_set_says_what_belongs_where(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="is not there") as caught:
        DATASETS[name].load(tmp_path)
    assert all(part in str(caught.value) for part in DATASETS[name].layout)
    (tmp_path / DATASETS[name].folder).mkdir()
    with pytest.raises(InputError, match="must hold"):
        DATASETS[name].load(tmp_path)


@pytest.mark.parametrize("name", [name for name, d in DATASETS.items() if "zeroshot" in d.tasks])
def test_a_missing_picture_is_named(small, tmp_path: Path, name: str) -> None:
    dataset, _ = small(name)
    found = dataset.load(tmp_path)
    (found.root / found.paths[0]).unlink()
    # Sets that are listed from their folders notice by the counts.
    with pytest.raises(InputError, match=found.paths[0] if name not in ("imagenet", "inaturalist2021") else "expected"):
        dataset.load(tmp_path)


def test_labels_and_splits_of_the_sets_that_do_not_spell_them_out(small, tmp_path: Path) -> None:
    imagenet = small("imagenet")[0].load(tmp_path)
    assert imagenet.class_names == ("tench", "great white shark")
    assert imagenet.paths[:3] == ("train/n01/a.JPEG", "train/n01/b.JPEG", "train/n02/c.JPEG")
    assert imagenet.labels.tolist() == [0, 0, 1, 0, 1]
    assert imagenet.splits.tolist() == ["train"] * 3 + ["test"] * 2
    cub = small("cub2011")[0].load(tmp_path)
    assert cub.class_names == ("Black footed Albatross", "Laysan Albatross")
    assert (cub.query_split, cub.splits.tolist()) == ("", ["train", "test", "train", "test"])
    places = small("places365")[0].load(tmp_path)
    assert places.class_names == ("airfield", "apartment building outdoor")
    assert places.labels.tolist() == [1, 0]
    assert small("inaturalist2021")[0].load(tmp_path).class_names == ("Lumbricus terrestris", "Rosa canina")


def test_captions_of_one_image_follow_one_another(small, tmp_path: Path) -> None:
    captions = small("nocaps")[0].load(tmp_path)
    assert isinstance(captions, Captions)
    assert captions.sentences == ("7 0", "7 1", "3 0", "3 1")
    assert captions.images.tolist() == [0, 0, 1, 1]
    assert small("flickr30k")[0].load(tmp_path).sentences == ("val 0", "val 1") * 2


def test_class_names_are_edited_as_coop_does(tmp_path: Path) -> None:
    eurosat, caltech = DATASETS["eurosat"], DATASETS["caltech101"]
    assert isinstance(eurosat, CoOpSplit) and isinstance(caltech, CoOpSplit)
    assert len(eurosat.edits) == 10 and eurosat.edits["SeaLake"] == "Sea or Lake"
    items = {split: [["a/1.jpg", 0, "Leopards"], ["b/1.jpg", 1, "wild_cat"]] for split in ("train", "val", "test")}
    folder = tmp_path / caltech.folder
    folder.mkdir()
    (folder / caltech.split_file).write_text(json.dumps(items))
    assert caltech.read(folder).class_names == ("leopard", "wild cat")


@pytest.mark.parametrize("title", ["Caltech101", "DescribableTextures"])
def test_published_split_files(shared_data: Path, tmp_path: Path, title: str) -> None:
    dataset = next(d for d in DATASETS.values() if getattr(d, "split_file", "") == f"split_zhou_{title}.json")
    folder = tmp_path / dataset.folder
    folder.mkdir()
    (folder / f"split_zhou_{title}.json").write_bytes(
        (shared_data / "splits" / f"split_zhou_{title}.json").read_bytes()
    )
    assert dataset.read(folder).counts() == dataset.expected
    with pytest.raises(InputError, match="pictures are missing"):
        dataset.load(tmp_path)


def test_a_split_file_of_another_version_is_named(small, tmp_path: Path) -> None:
    dataset, folder = small("dtd")
    content = json.loads((folder / dataset.split_file).read_text())
    content["test"].append(["key/train_0.jpg", 1, "key"])
    (folder / dataset.split_file).write_text(json.dumps(content))
    with pytest.raises(InputError, match="3 test, expected 2"):
        dataset.load(tmp_path)
    with pytest.raises(InputError, match=r"key/train_0\.jpg stands twice"):
        replace(dataset, expected={**dataset.expected, "test": 3}).load(tmp_path)
    content["test"][-1] = ["key/test_0.jpg", 1, "cup"]
    (folder / dataset.split_file).write_text(json.dumps(content))
    with pytest.raises(InputError, match="label 1 is 'key' and 'cup'"):
        dataset.load(tmp_path)
    (folder / dataset.split_file).write_text("[1]")
    with pytest.raises(InputError, match="not in the expected form"):
        dataset.load(tmp_path)


def test_landmarks(small, tmp_path: Path) -> None:
    dataset, folder = small("roxford5k")
    found = dataset.load(tmp_path)
    assert found.boxes == {0: (1.0, 2.0, 30.0, 40.0)}
    assert {name: rows.tolist() for name, rows in found.ground_truth[0].items()} == {
        "easy": [0],
        "hard": [2],
        "junk": [1],
    }
    (folder / "gnd_roxford5k.json").write_text(json.dumps(LANDMARKS))
    (folder / "gnd_roxford5k.pkl").unlink()
    assert dataset.load(tmp_path).boxes == found.boxes


def test_a_pickle_that_would_run_something_is_refused(small, tmp_path: Path) -> None:
    dataset, folder = small("roxford5k")

    class Harm:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harmed",)

    (folder / "gnd_roxford5k.pkl").write_bytes(pickle.dumps({**LANDMARKS, "extra": Harm()}))
    with pytest.raises(FileFormatError, match=r"is refused.*Convert it to gnd_roxford5k\.json"):
        dataset.load(tmp_path)
    assert not (tmp_path / "harmed").exists()


# ---------------------------------------------------------------------- one's own


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04r\xff\xff\xff\x7f.",  # an object that is number 2,147,483,647
        b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"abc.",  # a terabyte of bytes
        b"\x80\x04cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.",  # an array of two gigabytes
        b"\x80\x04cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85C\x01b\x87R.",
    ],
)
def test_a_pickle_that_asks_for_much_memory_is_refused(small, tmp_path: Path, content: bytes) -> None:
    _, folder = small("roxford5k")
    (folder / "gnd_roxford5k.pkl").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match="is refused") as refused:
            read_ground_truth(folder, "gnd_roxford5k")
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
    assert not isinstance(refused.value.__cause__, MemoryError)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"train": [[7, 0, "a"]], "val": [], "test": []}',
        '{"train": [["x.jpg", 0, 5]], "val": [], "test": []}',
        '{"train": [["' + "x" * 5000 + '.jpg", 0, "a"]], "val": [], "test": []}',
        '{"train": [["x.jpg", 1e999, "a"]], "val": [], "test": []}',
    ],
)
def test_lists_of_another_form(tmp_path: Path, content: str) -> None:
    (tmp_path / "dtd").mkdir()
    (tmp_path / "dtd" / "split_zhou_DescribableTextures.json").write_text(content)
    with pytest.raises(InputError, match="dtd: "):
        replace(DATASETS["dtd"], expected={}).load(tmp_path)


def test_a_folder_of_classes(tmp_path: Path) -> None:
    touch(tmp_path, "coffee_cup/a.png", "coffee_cup/b.png", "key/c.png", "key/notes.txt")
    found = open_dataset(f"folder:{tmp_path}")
    assert isinstance(found, Pictures)
    assert found.class_names == ("coffee cup", "key")
    assert found.labels.tolist() == [0, 0, 1]
    assert (found.query_split, set(found.splits)) == ("", {""})


def test_a_folder_of_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/cup/a.png", "train/key/b.png", "valid/cup/c.png", "test/key/d.png")
    found = open_dataset(f"folder:{tmp_path}")
    assert (found.query_split, found.gallery_split) == ("test", "train")
    assert dict(zip(found.paths, found.splits.tolist()))["valid/cup/c.png"] == "val"


def test_bad_folders_and_lists(tmp_path: Path) -> None:
    touch(tmp_path / "one", "cup/a.png", "cup/b.png")
    with pytest.raises(InputError, match="of the class 'cup'; with one class every answer is right"):
        open_dataset(f"folder:{tmp_path / 'one'}")
    touch(tmp_path / "loose", "cup/a.png", "b.png")
    with pytest.raises(InputError, match=r"1 pictures without a label, e\.g\. b\.png"):
        open_dataset(f"folder:{tmp_path / 'loose'}")
    listing = tmp_path / "list.csv"
    with listing.open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label"), ("one/cup/a.png", "cup"), ("nowhere.png", "key")])
    with pytest.raises(InputError, match=r"1 of 2 pictures are missing, e\.g\. nowhere\.png"):
        open_dataset(f"csv:{listing}")
    listing.write_text("path,label,split\none/cup/a.png,cup,holdout\nloose/b.png,key,test\n")
    with pytest.raises(InputError, match="split 'holdout' is unknown"):
        open_dataset(f"csv:{listing}")
    listing.write_text("path,label\none/cup/a.png,cup\nloose/b.png,key\none/cup/a.png,cup\n")
    with pytest.warns(IsomixWarning, match="listed more than once"):
        assert len(open_dataset(f"csv:{listing}")) == 2
    for spec in ("nothing", "folder:", "parquet:x"):
        with pytest.raises(InputError, match="is no data set"):
            open_dataset(spec)


@pytest.fixture
def arrays(tmp_path: Path, rng: np.random.Generator) -> Callable[..., str]:
    """Write an .npz of six embeddings of two classes, with changes; gives its spec."""

    def write(**changes: object) -> str:
        content = {"embeddings": rng.normal(size=(6, 4)).astype(np.float32), "labels": np.array([0, 1] * 3)}
        content = {key: value for key, value in {**content, **changes}.items() if value is not None}
        np.savez(tmp_path / "data.npz", **content)
        return f"arrays:{tmp_path / 'data.npz'}"

    return write


def test_arrays(arrays, rng: np.random.Generator) -> None:
    found = open_dataset(arrays(labels=np.array(["key", "cup"] * 3), split=np.array(["train"] * 4 + ["test"] * 2)))
    assert isinstance(found, Samples)
    assert found.class_names == ("cup", "key")
    assert found.labels.tolist() == [1, 0] * 3
    assert found.query_split == "test"
    parts = {
        "query": rng.normal(size=(2, 4)),
        "query_labels": np.array([0, 1]),
        "gallery": rng.normal(size=(3, 4)),
        "gallery_labels": np.array([0, 1, 1]),
    }
    found = open_dataset(arrays(embeddings=None, labels=None, **parts))
    assert found.splits.tolist() == ["query"] * 2 + ["gallery"] * 3
    assert found.vectors.embeddings.dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embeddings": None}, "holds labels. Expected"),
        ({"labels": None}, "labels: got nothing"),
        ({"labels": np.arange(5)}, "6 embeddings, but"),
        ({"labels": np.array([0.5] * 6)}, "labels: got float64"),
        ({"labels": np.zeros(6, int)}, "all labels are the same"),
        (
            {"labels": np.array([0, 9] * 3), "class_names": np.array(["a", "b"])},
            "labels from 0 to 9, but 2 class_names",
        ),
        ({"labels": np.array(["a", "c"] * 3), "class_names": np.array(["a", "b"])}, "class_names must be the sorted"),
        ({"embeddings": np.full((6, 4), np.nan)}, "NaN"),
        ({"embeddings": np.zeros((6, 4))}, "all zeros"),
        ({"text": np.ones((3, 4))}, r"text has the shape \(3, 4\), expected \(2, 4\)"),
        ({"features": np.ones((5, 8))}, "6 embeddings, but {'features': 5}"),
        ({"split": np.array(["holdout"] * 6)}, "split 'holdout' is unknown"),
        ({"labels": np.array([{}] * 6, object)}, r"not a \.npz file that can be read \(it holds pickled objects"),
    ],
)
def test_bad_arrays(arrays, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_dataset(arrays(**changes))


def test_doubtful_arrays_warn(arrays, rng: np.random.Generator) -> None:
    E = rng.normal(size=(6, 4))
    E[5] = E[0]
    spec = arrays(embeddings=E, split=np.array(["train"] * 4 + ["test"] * 2))
    with pytest.warns(
        IsomixWarning, match="1 rows equal an earlier one, e.g. rows 0 and 5; 1 of them lie in another split, 1 have"
    ):
        open_dataset(spec)
    with pytest.warns(IsomixWarning, match="1 of 3 classes have no picture, e.g. 'c'"):
        open_dataset(arrays(class_names=np.array(["a", "b", "c"])))


def test_halves_are_of_every_class_and_always_the_same() -> None:
    labels = np.repeat([0, 1, 2], [2, 5, 8])
    train = stratified_halves(labels)
    assert np.bincount(labels[train]).tolist() == [1, 3, 4]
    assert (train == stratified_halves(labels)).all()
    with pytest.raises(InputError, match="class 1 has one picture"):
        stratified_halves(np.array([0, 0, 1]))
