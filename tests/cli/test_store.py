"""The verbs embed, adapt and inspect as a user calls them: output, exit codes, interruption."""

from __future__ import annotations

import json
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from rich.console import Console
from safetensors.numpy import save_file

from isomix.cli import progress as progress_module
from isomix.cli.app import main
from isomix.projectors import Projectors
from isomix.spaces import IsoCLIP, NestedTextPCA, recognition
from isomix.spaces.recognition import text_mark
from isomix.store import EmbeddingTable

make_pictures = runpy.run_path(str(Path(__file__).parents[1] / "store" / "store_helpers.py"))["make_pictures"]
STOPPED_AFTER_A_COMMIT = """
import signal, sys
from isomix.cli.app import main
from isomix.encoders.embedded import EmbeddedEncoder
from isomix.store import EmbeddingTable

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
rows = int(sys.argv.pop(1))
encode = EmbeddedEncoder.forward_pixels

def wait_after_a_commit(encoder, pixels):
    if EmbeddingTable.open("t.lance").count > rows:
        print("waiting", flush=True)
        sys.stdin.readline()
    return encode(encoder, pixels)

EmbeddedEncoder.forward_pixels = wait_after_a_commit
main()
"""
ISOMIX = [sys.executable, "-c", "from isomix.cli.app import main; main()"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    make_pictures(tmp_path / "photos", [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(6)])
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


@pytest.fixture
def isomix(monkeypatch, capsys):
    """Call the command line in this process: exit code, standard output, standard error."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["isomix", *map(str, words)])
        monkeypatch.setenv("ISOMIX_DEBUG", "")
        with pytest.raises(SystemExit) as stopped:
            main()
        written = capsys.readouterr()
        return stopped.value.code or 0, written.out, written.err

    return call


def test_embed_then_embed_again(photos, isomix):
    (photos / "dog" / "broken.jpg").write_bytes(b"no picture")
    (photos / "notes.txt").write_text("x")
    code, out, err = isomix("embed", "photos", "-o", "t.lance", "--labels", "folders")
    assert code == 3
    assert out.startswith("t.lance: 12 pictures")
    assert "12  new" in out and "1  unreadable" in out and "1  not pictures" in out
    assert "dog/broken.jpg" in err
    assert max(map(len, out.splitlines())) <= 80
    table = EmbeddingTable.open("t.lance")
    assert table.metadata.model == "embedded"
    assert table.column("label") == ["cat"] * 6 + ["dog"] * 6

    (photos / "dog" / "broken.jpg").unlink()
    code, out, _ = isomix("embed", "photos", "-o", "t.lance", "--json")
    report = json.loads(out)
    assert code == 0
    assert (report["unchanged"], report["rows"], report["complete"]) == (12, 12, True)


def test_all_failures_are_listed(photos, isomix):
    for i in range(8):
        (photos / "dog" / f"broken{i}.jpg").write_bytes(b"no picture")
    names = {f"dog/broken{i}.jpg" for i in range(8)}
    code, _, err = isomix("embed", "photos", "-o", "t.lance")
    assert code == 3 and "skipped 3 more; all of them: isomix inspect t.errors.lance" in err
    code, out, _ = isomix("inspect", "t.errors.lance")
    assert code == 0 and "ledger of unreadable files" in out
    assert {line.split(":")[0].strip() for line in out.splitlines() if "broken" in line} == names
    code, out, _ = isomix("embed", "photos", "-o", "t.lance", "--json")
    assert (code, set(json.loads(out)["failures"])) == (3, names)
    found = json.loads(isomix("inspect", "t.lance", "--json")[1])
    assert set(found["failures"]) == names
    code, out, _ = isomix("inspect", "t.lance")
    assert "t.errors.lance" in out and "broken0" not in out
    assert "8  unreadable before; --retry tries again" in isomix("embed", "photos", "-o", "t.lance")[1]


def test_photographs_are_said_to_be_unknown_to_the_embedded_model(tmp_path, monkeypatch, pictures, isomix):
    monkeypatch.chdir(tmp_path)
    for path in sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg")):
        (tmp_path / "photos" / path.stem).mkdir(parents=True)
        shutil.copy(path, tmp_path / "photos" / path.stem)
    (tmp_path / "list.txt").write_text("photos/china/china.jpg\n", encoding="utf-8")
    for source in ("photos", "photos/china/china.jpg", "list.txt"):
        code, _, err = isomix("embed", source, "-o", "t.lance", "--overwrite")
        assert code == 0
        assert "these look like photographs" in err and "--model hf:openai/clip-vit-base-patch32" in err
    assert "these look like photographs" in isomix("fit", "photos", "-o", "m.safetensors")[2]
    said = isomix("demo", "--images", "photos", "-o", "tour")[2]
    assert "these look like photographs" in said and "--model hf:openai/clip-vit-base-patch32" in said
    assert "photographs" not in isomix("embed", "photos", "-o", "named.lance", "--model", "embedded")[2]
    assert "photographs" not in isomix("embed", pictures / "icons" / "key", "-o", "icons.lance")[2]


def test_one_picture_is_a_source(photos, isomix):
    assert isomix("embed", "photos/dog/1.png", "-o", "one.lance")[0] == 0
    table = EmbeddingTable.open("one.lance")
    assert (table.column("path"), table.root) == (["1.png"], photos / "dog")


def test_moved_files_and_files_that_a_list_no_longer_names_are_said(photos, tmp_path, isomix):
    (tmp_path / "list.txt").write_text("".join(f"photos/cat/{i}.png\n" for i in range(6)))
    isomix("embed", "list.txt", "-o", "t.lance")
    (photos / "cat" / "0.png").rename(photos / "moved.png")
    (tmp_path / "list.txt").write_text("photos/moved.png\nphotos/cat/1.png\nphotos/cat/2.png\n")
    code, out, _ = isomix("embed", "list.txt", "-o", "t.lance", "--keep-vanished")
    assert code == 0 and "1  moved, row kept under the new path" in out
    assert "3  vanished or no longer in the source, row kept" in out
    code, out, _ = isomix("embed", "list.txt", "-o", "t.lance")
    assert code == 0 and "3  no longer in the source, row removed" in out
    assert "--keep-vanished keeps such rows" in out
    assert max(map(len, out.splitlines())) <= 80


def test_several_sources_are_one_table(photos, tmp_path, isomix):
    """Folders, a picture and a list: labels by each source's folders, every file once, and a second run encodes nothing."""
    make_pictures(tmp_path / "more", ["bird/0.png", "single.png"], seed=1)
    (tmp_path / "list.txt").write_text("more/single.png\nphotos/cat/0.png\nphotos/cat/0.png\n")
    words = ("embed", "photos", "more/bird/0.png", "list.txt", "-o", "t.lance", "--labels", "folders")
    code, out, _ = isomix(*words)
    assert code == 0 and "14  new" in out and "2  listed more than once" in out
    table = EmbeddingTable.open("t.lance")
    assert table.root == tmp_path
    assert table.column("path")[-2:] == ["more/bird/0.png", "more/single.png"]
    assert table.column("label") == ["cat"] * 6 + ["dog"] * 6 + [None, "more"]
    assert "14  unchanged" in isomix(*words)[1]
    code, _, err = isomix("embed", "photos", "-o", "t.lance")
    assert code == 1 and "every row would be replaced" in err
    code, _, err = isomix("embed", "photos", "more", "-o", "u.lance", "--root", "photos")
    assert code == 1 and "there are several sources" in err


def test_csv_of_semicolons(photos, isomix):
    Path("list.csv").write_text("path;label;caption\nphotos/dog/1.png;dog;a dog, sitting\n", encoding="utf-8")
    assert isomix("embed", "list.csv", "-o", "t.lance")[0] == 0
    table = EmbeddingTable.open("t.lance")
    assert (table.column("label"), table.column("caption")) == (["dog"], ["a dog, sitting"])


def test_list_on_standard_input(photos, tmp_path):
    done = subprocess.run(
        [*ISOMIX, "embed", "-", "-o", "t.lance"],
        input="photos/dog/1.png\nphotos/cat/1.png\n",
        text=True,
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert EmbeddingTable.open(tmp_path / "t.lance").column("path") == ["photos/dog/1.png", "photos/cat/1.png"]


def test_adapt_and_inspect_a_table(photos, isomix):
    isomix("embed", "photos", "-o", "t.lance")
    code, out, _ = isomix("adapt", "t.lance", "-o", "iso.lance", "--band", "3/20")
    assert code == 0
    assert "192 -> 169  (12 % shorter)" in out
    assert "cuts the 3 largest and 20 smallest of 192 directions" in out
    assert isomix("adapt", "t.lance", "--column", "iso", "--band", "3/20")[0] == 0
    found = json.loads(isomix("inspect", "t.lance", "--json")[1])
    assert (found["what"], found["images"], found["model"]) == ("embedding table", 12, "embedded")
    assert found["derived"]["iso"]["parameters"]["k_top"] == 3
    code, out, _ = isomix("inspect", "iso.lance")
    assert code == 0
    assert "table of adapted embeddings" in out and "isoclip" in out
    projectors = Projectors.from_pretrained("embedded")
    space = IsoCLIP(projectors, band=(3, 20)).fit()
    expected = space.transform(EmbeddingTable.open("t.lance").embeddings())
    np.testing.assert_allclose(EmbeddingTable.open("t.lance").embeddings("iso"), expected, atol=1e-3)
    np.testing.assert_allclose(EmbeddingTable.open("iso.lance").embeddings(), expected, atol=1e-3)

    make_pictures(photos, ["new.png"], seed=9)
    code, out, _ = isomix("embed", "photos", "-o", "t.lance")
    assert code == 0
    assert "'iso' was dropped" in out


def test_adapt_with_the_text_projector_alone(photos, tmp_path, isomix, rng):
    stored, text = rng.normal(size=(50, 16)).astype(np.float32), rng.normal(size=(16, 12)).astype(np.float32)
    np.save("s.npy", stored)
    space = IsoCLIP(Projectors(text=text), (2, 3)).fit()
    linear = {"text_projection.weight": text, "visual_projection.weight": np.eye(16, 20, dtype=np.float32)}
    save_file(linear, "linear.safetensors")
    code, out, err = isomix(
        "adapt", "s.npy", "-o", "a.npy", "--model", "linear.safetensors", "--band", "2/3", "--text-only"
    )
    assert (code, err) == (0, "")
    assert "smallest of 12 directions, from the text projector alone" in out
    np.testing.assert_allclose(np.load("a.npy"), space.transform(stored), atol=1e-3)

    save_file({"text.text_projection.weight": text, "visual.head.mlp.fc1.weight": text}, "mlp.safetensors")
    words = ("adapt", "s.npy", "--model", "mlp.safetensors", "--band", "2/3")
    code, out, err = isomix(*words, "-o", "b.parquet")
    assert code == 0
    assert "mlp.safetensors has no image projector that is one matrix, so its text projector alone is used" in err
    found = json.loads(isomix("inspect", "b.parquet", "--json")[1])["space"]
    assert (found["form"], found["band"]) == ("text projector alone", {"k_top": 2, "k_bottom": 3, "of": 12})

    assert isomix("embed", "photos", "-o", "t.lance")[0] == 0
    assert isomix("adapt", "t.lance", "--column", "iso", "--band", "3/20", "--text-only")[0] == 0
    assert json.loads(isomix("inspect", "t.lance", "--json")[1])["derived"]["iso"]["form"] == "text projector alone"
    code, _, err = isomix(
        "adapt", "t.lance", "--column", "x", "--band", "1/1", "--text-only", "--model", "embedded:as-trained"
    )
    assert code == 1 and "the text projector at hand is that of" in err


def test_adapt_without_a_preset_takes_the_automatic_band_and_says_so(tmp_path, isomix, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    left, right = (np.linalg.qr(rng.normal(size=(64, 64)))[0] for _ in range(2))
    S = np.r_[np.linspace(4, 3, 58), np.linspace(1.5, 0.5, 6)]
    Projectors(text=(left * S) @ right.T, source="hf:some/clip").save("clip.safetensors")
    coordinates = rng.normal(size=(200, 64))
    coordinates[:, -6:] *= 2.5
    np.save("pictures.npy", (coordinates @ left.T).astype(np.float32))
    np.save("others.npy", rng.normal(size=(200, 64)).astype(np.float32))
    for name, cut, why in (("pictures", (19, 6), "confirm it"), ("others", (0, 0), "do not")):
        words = ("adapt", f"{name}.npy", "-o", f"{name}-adapted.parquet", "--model", "clip.safetensors", "--json")
        code, out, err = isomix(*words)
        assert code == 0, err
        space = json.loads(out)["space"]
        assert (space["band"]["k_top"], space["band"]["k_bottom"]) == cut
        assert "no preset band for clip.safetensors, so the automatic one holds" in err
        assert why in err and why in space["parameters"]["band_evidence"]["why"]
    code, _, err = isomix(*words, "--overwrite", "--band", "2/1")
    assert code == 0 and "no preset band" not in err


@pytest.mark.parametrize("known", ["text projector", "name"])
def test_a_local_copy_takes_the_preset_of_its_model_and_it_is_said(tmp_path, isomix, rng, monkeypatch, known):
    """adapt and spectrum; and the band that is said is the one that is cut."""
    monkeypatch.chdir(tmp_path)
    image = rng.normal(size=(512, 768)).astype(np.float32)
    text = rng.normal(size=(512, 512)).astype(np.float16)
    if known == "name":
        backbone, by, cut = "openai/clip-vit-base-patch16", "the name in config.json", (200, 50)
    else:
        backbone, by, cut = "openai/clip-vit-base-patch32", "its text projector", (150, 50)
        mark = text_mark(Projectors(text=text))
        monkeypatch.setitem(recognition.TEXT_MARKS, mark, backbone)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "config.json").write_text(json.dumps({"_name_or_path": "openai/clip-vit-base-patch16"}))
    save_file({"visual_projection.weight": image, "text_projection.weight": text}, "copy/model.safetensors")
    np.save("s.npy", rng.normal(size=(60, 512)).astype(np.float32))
    code, out, err = isomix("adapt", "s.npy", "-o", "t.npy", "--model", "copy", "--json")
    assert code == 0, err
    assert f"preset band of {backbone}, by {by}" in err
    assert ("was trained further" in err) == (known == "name")
    space = json.loads(out)["space"]
    assert (space["band"]["k_top"], space["band"]["k_bottom"]) == cut
    assert space["parameters"]["preset_of"] == f"{backbone}, by {by}"
    assert f"preset for image   {cut[0]}/{cut[1]}" in isomix("spectrum", "copy")[1]


def test_adapt_arrays(tmp_path, isomix, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored = rng.normal(size=(50, 192)).astype(np.float16)
    np.save("s.npy", stored)
    space = IsoCLIP(Projectors.from_pretrained("embedded"), band=(3, 20)).fit()
    space.save("iso.safetensors")
    code, out, _ = isomix("adapt", "s.npy", "-o", "t.npy", "--space", "iso.safetensors", "--json")
    assert code == 0
    assert json.loads(out)["space"]["fingerprint"] == space.fingerprint
    np.testing.assert_allclose(np.load("t.npy"), space.transform(stored), atol=1e-3)
    words = ("--model", "embedded", "--band", "3/20")
    assert isomix("adapt", "s.npy", "-o", "wide.npy", *words, "--no-compact", "--dtype", "float32")[0] == 0
    wide = np.load("wide.npy")
    assert (wide.shape, wide.dtype) == ((50, 192), np.float32)
    np.testing.assert_allclose(wide @ wide.T, space.transform(stored) @ space.transform(stored).T, atol=1e-3)
    stored[7] = np.nan
    np.save("s.npy", stored)
    code, _, err = isomix("adapt", "s.npy", "-o", "u.npy", *words)
    assert code == 1 and "rows without a direction" in err and ": 7;" in err
    code, out, _ = isomix("adapt", "s.npy", "-o", "u.npy", *words, "--skip-bad")
    assert code == 3 and "1 rows without a direction" in out


def test_an_automatic_band_looks_at_the_embeddings(tmp_path, isomix, pictures, monkeypatch):
    """adapt and search take the band that spectrum suggests for the same embeddings."""
    monkeypatch.chdir(tmp_path)
    isomix("embed", pictures / "icons", "-o", "t.lance")
    suggested = json.loads(isomix("spectrum", "embedded", "--images", "t.lance", "--json")[1])["suggested"]
    assert suggested["from"] == "embeddings"
    stored = EmbeddingTable.open("t.lance").embeddings()
    np.save("s.npy", np.concatenate([stored, np.zeros_like(stored[:1])]))
    for words in (["t.lance", "-o", "a.lance"], ["t.lance", "--column", "iso"], ["s.npy", "-o", "a.npy", "--skip-bad"]):
        model = ["--model", "embedded"] if words[0] == "s.npy" else []
        code, out, err = isomix("adapt", *words, "--band", "auto", *model, "--json")
        assert code == (3 if model else 0), err
        band = json.loads(out)["space"]["band"]
        assert (band["k_top"], band["k_bottom"]) == (suggested["k_top"], suggested["k_bottom"])
    answer = json.loads(isomix("search", "t.lance", "row:0", "--band", "auto", "--json")[1])["results"][0]
    assert answer["space"] == "isoclip" and "embeddings" in answer["space_note"]
    np.save("few.npy", stored[:10])
    code, _, err = isomix("adapt", "few.npy", "-o", "b.npy", "--band", "auto", "--model", "embedded")
    assert code == 1 and "Give the band instead" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["embed", "nothing", "-o", "t.lance"], 1, "does not exist"),
        (["embed", "photos", "-o", "t"], 1, "photos.lance"),
        (["embed", "photos"], 2, "--output"),
        (["embed", "photos", "-o", "t.lance", "--labels", "files"], 2, "folders"),
        (["embed", "photos", "-o", "t.lance", "--batch-size", "0"], 2, "batch-size"),
        (["embed", "photos", "-o", "t.lance", "--model", "nope"], 1, "nope"),
        (["adapt", "photos"], 2, "-o"),
        (["adapt", "photos", "-o", "x"], 2, "--model"),
        (["adapt", "photos", "-o", "x", "--model", "embedded"], 1, "clip-retrieval folder"),
        (["adapt", "x.npy", "-o", "y.npy", "--model", "embedded", "--band", "nobody"], 1, "no preset band"),
        (["adapt", "x.npy", "-o", "y.npy", "--space", "s.safetensors", "--band", "3/0"], 2, "--space"),
        (["inspect", "nothing"], 1, "does not exist"),
    ],
)
def test_wrong_calls(photos, isomix, words, code, message):
    found, out, err = isomix(*words)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_inspect_knows_its_files(photos, tmp_path, isomix, rng):
    import isomix as package

    np.savez("e.npz", emb=rng.normal(size=(3, 4)))
    IsoCLIP(Projectors.from_pretrained("embedded"), band=(1, 1)).fit().save("iso.safetensors")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "clip", "architectures": ["CLIPModel"]}')
    (tmp_path / "note.txt").write_text("words")
    weights = Path(package.__file__).parent / "encoders" / "weights" / "converged.safetensors"
    expected = {
        "photos": ("folder of pictures", "pictures", 12),
        "photos/cat/1.png": ("picture", "width", 10),
        "e.npz": ("embeddings", "layout", "npz"),
        "iso.safetensors": ("space", "method", "isoclip"),
        "model": ("model folder", "model_type", "clip"),
        str(weights): ("model weights", "image_projector", [192, 256]),
    }
    for path, (what, name, value) in expected.items():
        found = json.loads(isomix("inspect", path, "--json")[1])
        assert (found["what"], found[name]) == (what, value), path
        assert isomix("inspect", path)[1].startswith(f"{path}: {what}")
    code, _, err = isomix("inspect", "note.txt")
    assert code == 1 and "no picture" in err


def test_killed_then_interrupted_then_finished(tmp_path, monkeypatch, isomix):
    """The embedded model, really stopped, twice: the table ends up as if nothing had happened.

    After its first commit each child waits in the middle of a batch for the signal, however fast or slow it is.
    """
    make_pictures(tmp_path / "photos", [f"{i:04d}.png" for i in range(900)])
    (tmp_path / "photos" / "0100.png").write_bytes(b"broken")
    monkeypatch.chdir(tmp_path)
    words = ["embed", "photos", "--batch-size", "8", "-o"]
    rows = 0
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        child = subprocess.Popen(
            [sys.executable, "-c", STOPPED_AFTER_A_COMMIT, str(rows), *words, "t.lance"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout.readline() == "waiting\n", child.communicate()
        child.send_signal(number)
        _, err = child.communicate("go on\n", timeout=60)
        assert child.returncode == code
        assert "Traceback" not in err
        before, rows = rows, EmbeddingTable.open("t.lance").count
        assert before < rows < 899
    assert "goes on from here" in err
    for name in ("t.lance", "whole.lance"):
        assert isomix(*words, name)[0] == 3
    resumed, whole = EmbeddingTable.open("t.lance"), EmbeddingTable.open("whole.lance")
    assert resumed.column("path") == whole.column("path")
    assert resumed.embeddings().tobytes() == whole.embeddings().tobytes()
    assert [row["path"] for row in resumed.errors()] == ["0100.png"]


def test_progress_off_a_terminal_is_a_line_now_and_then(monkeypatch, capsys):
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: float(next(clock)))
    with progress_module.progress("pictures") as update:
        for done in range(0, 101, 25):
            update(done, 100, done // 50)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 4
    assert lines[-1].startswith("100 of 100 pictures") and "2 unreadable" in lines[-1]


def test_progress_bar_on_a_terminal(monkeypatch):
    console = Console(force_terminal=True, width=80, file=open("/dev/null", "w"), record=True)  # noqa: SIM115, PTH123
    monkeypatch.setattr(progress_module, "log", console)
    with progress_module.progress("pictures") as update:
        update(0, 100)
        update(50, 100, 1)
        time.sleep(0.2)
    console.file.close()
    text = console.export_text()
    assert "50/100" in text and "1 unreadable" in text and "a second" in text


def test_smooth_and_search_again(photos, isomix):
    isomix("embed", "photos", "-o", "t.lance")
    code, out, _ = isomix("adapt", "t.lance", "--smooth")
    assert code == 0
    assert "isoclip_smoothed (for pictures), isoclip_smoothed_plain (for sentences)" in out
    found = json.loads(isomix("inspect", "t.lance", "--json")[1])
    assert found["derived"]["isoclip_smoothed"]["column"] == "isoclip"
    assert found["derived"]["isoclip_smoothed_plain"]["rows"] == "plain"
    code, out, _ = isomix("search", "t.lance", "row:0", "--expand", "-k", "2", "--json")
    assert code == 0
    note = json.loads(out)["results"][0]["space_note"]
    assert "smoothed over neighbours in isoclip" in note and "expanded" in note
    code, out, _ = isomix("search", "t.lance", "row:0", "--no-smoothed", "--json")
    assert "smoothed" not in json.loads(out)["results"][0]["space_note"]
    assert isomix("adapt", "t.lance", "--smooth", "-o", "x.lance")[0] == 2
    (photos / "dog" / "1.png").unlink()
    out = isomix("embed", "photos", "-o", "t.lance")[1]
    assert "smoothed column 'isoclip_smoothed' was dropped" in out
    assert "adapt t.lance --smooth --column isoclip\n" in out


def test_a_bank_is_kept_with_the_table_it_smoothed(photos, isomix, tmp_path):
    isomix("embed", "photos", "-o", "t.lance")
    (tmp_path / "bank.txt").write_text("a cat\na dog\na house\na tree\n", encoding="utf-8")
    code, out, _ = isomix("adapt", "t.lance", "--smooth", "--bank", "bank.txt")
    assert code == 0
    assert "nested_text_pca_smoothed (for pictures)" in out and "compares pictures in this space from now on" in out
    found = json.loads(isomix("search", "t.lance", "row:0", "--json")[1])["results"][0]
    assert found["space"] == "nested-text-pca"
    assert "kept in t.space.safetensors" in found["space_note"] and "smoothed over" in found["space_note"]
    (photos / "dog" / "1.png").unlink()
    assert "adapt t.lance --smooth --column nested_text_pca\n" in isomix("embed", "photos", "-o", "t.lance")[1]
    code, out, err = isomix("adapt", "t.lance", "--smooth")
    assert "nested_text_pca_smoothed" in out and "smoothed in nested-text-pca as before" in err
    assert "isoclip_smoothed" in isomix("adapt", "t.lance", "--smooth", "--model", "embedded")[1]
    assert json.loads(isomix("search", "t.lance", "row:0", "--json")[1])["results"][0]["space"] == "isoclip"


def test_arrays_are_adapted_with_stored_text_embeddings_and_no_model(isomix, tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    E, T = (rng.normal(size=(n, 32)).astype(np.float32) for n in (7, 40))
    np.save("E.npy", E)
    np.savez("T.npz", text=T)
    code, out, _ = isomix("adapt", "E.npy", "-o", "better.npy", "--bank", "T.npz")
    assert code == 0
    assert "nested-text-pca, 4, 8, 16 components" in out
    np.testing.assert_allclose(np.load("better.npy"), NestedTextPCA().fit(T).transform(E), atol=1e-6)
    (tmp_path / "bank.txt").write_text("a cat\na dog\n", encoding="utf-8")
    assert isomix("adapt", "E.npy", "-o", "other.npy", "--bank", "bank.txt")[0] == 2  # whose text tower?
    for also in (["--band", "auto"], ["--modality", "text"], ["--text-only"], ["--no-compact"]):
        assert isomix("adapt", "E.npy", "-o", "other.npy", "--bank", "T.npz", *also)[0] == 2
    np.savez("other.npz", words=T)
    code, _, err = isomix("adapt", "E.npy", "-o", "other.npy", "--bank", "other.npz")
    assert code == 1 and "expected 'text' or 'embeddings'" in err
