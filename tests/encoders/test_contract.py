"""What every encoder does with its inputs, and how batches run: order, failures, bounded memory, prompt ends."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import isomix
from isomix.encoders import Encoder
from isomix.encoders.batching import iter_encoded
from isomix.encoders.images import read_image
from isomix.errors import ImageError, InputError, ModelError
from isomix.projectors import Projectors


class MeanColour(Encoder):
    """A tower that returns the mean colour of a picture: cheap, and its rows tell which picture they come from."""

    scheme = "mean-colour"

    def __init__(self, seconds: float = 0.0) -> None:
        self.spec = self.fingerprint = "mean-colour"
        self.preprocessing = {}
        self.projectors = Projectors(np.eye(3), np.eye(3))
        self.logit_scale = 1.0
        self.seconds = seconds
        self.batches: list[int] = []

    def preprocess(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((1, 1)), np.float32).transpose(2, 0, 1) + 1

    def forward_pixels(self, pixels: np.ndarray) -> np.ndarray:
        self.batches.append(len(pixels))
        time.sleep(self.seconds)
        return pixels[:, :, 0, 0]

    def forward_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[len(text) + 1, 1, 1] for text in texts], np.float32)


def colour(number: int) -> np.ndarray:
    return np.full((4, 4, 3), number, np.uint8)


def test_a_corrupt_picture_in_the_middle_shifts_no_row(tmp_path: Path) -> None:
    encoder = isomix.load_encoder("embedded")
    paths = []
    for number in range(7):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(colour(number * 40)).save(paths[-1])
    whole = encoder.encode_image(paths, batch_size=3)
    paths[3].write_bytes(paths[3].read_bytes()[:40])
    paths[5].unlink()
    result = encoder.encode_image([*paths, b"no picture"], batch_size=3)
    assert result.ok.tolist() == [True, True, True, False, True, False, True, False]
    assert list(result.errors) == [3, 5, 7]
    assert result.errors[5] == "no such file"
    assert np.isnan(result.embeddings[[3, 5, 7]]).all() and np.isnan(result.features[[3, 5, 7]]).all()
    np.testing.assert_allclose(result.embeddings[[0, 1, 2, 4, 6]], whole.embeddings[[0, 1, 2, 4, 6]], atol=1e-5)


def test_batches_hold_what_a_table_needs() -> None:
    def failing() -> Image.Image:
        raise PermissionError(13, "Permission denied")

    loaders = [lambda n=n: Image.new("RGB", (n + 1, 2), (n, 0, 0)) for n in range(5)]
    loaders[1] = failing
    batches = list(iter_encoded(MeanColour(), loaders, batch_size=2, workers=2))
    assert [batch.start for batch in batches] == [0, 2, 4]
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert batches[0].sizes == [(1, 2), None]
    assert batches[0].errors == {1: "Permission denied"}
    assert batches[1].features[:, 0].tolist() == [3.0, 4.0]
    assert batches[2].sizes == [(5, 2)]


def test_a_batch_without_a_readable_picture() -> None:
    encoder = MeanColour()
    result = encoder.encode_image([b"x", b"y", colour(9)], batch_size=2)
    assert result.ok.tolist() == [False, False, True]
    assert encoder.batches == [1]


def test_order_is_kept_when_decoding_finishes_out_of_order(rng: np.random.Generator) -> None:
    delays = rng.random(60) * 0.01

    def loader(number: int) -> Image.Image:
        time.sleep(delays[number])
        return Image.fromarray(colour(number))

    batches = iter_encoded(MeanColour(), [lambda n=n: loader(n) for n in range(60)], batch_size=7, workers=8)
    features = np.concatenate([batch.features for batch in batches])
    np.testing.assert_array_equal(features[:, 0], np.arange(60) + 1)


def test_only_a_few_batches_are_under_way() -> None:
    started = 0
    lead = []

    def loaders() -> Iterator[object]:
        nonlocal started
        for number in range(500):
            started += 1
            yield lambda n=number: Image.fromarray(colour(n % 256))

    seen = 0
    for batch in iter_encoded(MeanColour(), loaders(), batch_size=8, workers=2):
        seen += len(batch)
        lead.append(started - seen)
    assert seen == 500
    assert max(lead) <= 16


def test_an_unexpected_error_of_a_loader_ends_the_run() -> None:
    def broken() -> Image.Image:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(iter_encoded(MeanColour(), [broken], batch_size=2))


def test_leaving_the_loop_early_stops_the_threads() -> None:
    calls = 0

    def slow() -> Image.Image:
        nonlocal calls
        calls += 1
        time.sleep(0.01)
        return Image.new("RGB", (2, 2))

    batches = iter_encoded(MeanColour(), (slow for _ in range(10_000)), batch_size=2, workers=2)
    next(batches)
    batches.close()
    done = calls
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("isomix-decode") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert calls <= done + 2


def test_ctrl_c_ends_a_run_at_once() -> None:
    program = """
import os, signal, threading, time
import numpy as np
from PIL import Image
import isomix
from isomix.encoders.batching import iter_encoded
def loader():
    time.sleep(0.01)
    return Image.new("RGB", (64, 64))
encoder = isomix.load_encoder("embedded", threads=1)
for number, batch in enumerate(iter_encoded(encoder, (loader for _ in range(10**9)), batch_size=8, workers=2)):
    if number == 2:
        print("running", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(2)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in err
    assert process.returncode != 0


def test_decoding_runs_beside_encoding() -> None:
    def loader() -> Image.Image:
        time.sleep(0.02)
        return Image.new("RGB", (2, 2))

    encoder = MeanColour(seconds=0.1)
    start = time.perf_counter()
    assert sum(len(batch) for batch in iter_encoded(encoder, [loader] * 80, batch_size=8, workers=2)) == 80
    elapsed = time.perf_counter() - start  # 1.0 s of encoding and 0.8 s of decoding
    assert elapsed < 1.65


def test_empty_inputs_and_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    encoder = MeanColour()
    assert encoder.encode_image([]).embeddings.shape == (0, 3)
    assert encoder.encode_text([]).embeddings.shape == (0, 3)
    encoder.encode_image([colour(1)])
    assert capsys.readouterr() == ("", "")
    assert len(encoder.encode_image(np.stack([colour(1), colour(2)]), show_progress_bar=True)) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "images", ["one.png", Path("one.png"), b"bytes", colour(1), Image.new("RGB", (2, 2)), iter([])]
)
def test_a_single_picture_must_be_wrapped(images: object) -> None:
    with pytest.raises(InputError, match="sequence of pictures"):
        MeanColour().encode_image(images)


def test_wrong_arguments() -> None:
    encoder = MeanColour()
    with pytest.raises(InputError, match="batch_size"):
        encoder.encode_image([colour(1)], batch_size=0)
    with pytest.raises(InputError, match="workers"):
        encoder.encode_image([colour(1)], workers=-1)
    with pytest.raises(InputError, match="NoneType"):
        encoder.encode_image([None])
    with pytest.raises(InputError, match="single string"):
        encoder.encode_text("a cat")
    with pytest.raises(InputError, match="item 1 is a float"):
        encoder.encode_text(["a cat", 1.0])


def test_max_megapixels_reaches_the_reader() -> None:
    result = MeanColour().encode_image([np.zeros((200, 200, 3), np.uint8), colour(1)], max_megapixels=0.01)
    assert result.ok.tolist() == [False, True]
    with pytest.raises(ImageError):
        read_image(np.zeros((200, 200, 3), np.uint8), max_megapixels=0.01)


@pytest.mark.parametrize(
    "spec", ["nonsense", "opencilp:ViT-B-32/openai", "openai/clip-vit-base-patch32", "s3://bucket/model"]
)
def test_unknown_specs_list_the_known_schemes(spec: str) -> None:
    with pytest.raises(ModelError, match=r"'embedded', short names \(.*'hf:<"):
        isomix.load_encoder(spec)


def test_a_spec_must_name_something() -> None:
    for spec in ("", "hf:", None, 3):
        with pytest.raises(InputError, match="expected a string"):
            isomix.load_encoder(spec)


def test_importing_the_package_imports_no_framework() -> None:
    program = (
        "import sys, isomix; isomix.load_encoder; isomix.Projectors.from_pretrained('embedded');"
        "heavy = {'torch', 'transformers', 'onnxruntime', 'PIL', 'tokenizers', 'rich'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
