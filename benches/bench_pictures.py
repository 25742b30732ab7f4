"""Time and memory of the worst picture of each kind that ``max_megapixels`` lets through, and what ends the hostile ones.

Each picture is read in a process of its own, so that its peak is its own: memory is what the process took beyond what it had
when everything was imported, file included; time is of the processor. ``asked`` is what the shared budget is asked for.
``--draft`` measures what decoding JPEG at a half, a quarter and an eighth would change: embeddings of the embedded model, and
pixels of a model of 224 pixels, on two photographs, with noise, at several sizes.
Run: python benches/bench_pictures.py [--megapixels 99] [--draft]
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import resource
import struct
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from isomix.encoders import decoding, load_encoder
from isomix.encoders.images import read_image
from isomix.encoders.preprocessing import Preprocessing
from isomix.errors import ImageError

Image.MAX_IMAGE_PIXELS = None


def smooth(side: int, channels: int) -> Any:
    """Waves, which compress neither well nor badly."""
    x = np.arange(side, dtype=np.float32) / 40
    planes = [(127 + 60 * np.sin(x + c)[:, None] + 60 * np.cos(x * (c + 1))).astype(np.uint8) for c in range(channels)]
    return planes[0] if channels == 1 else np.stack(planes, axis=2)


def saved(path: Path, side: int, channels: int, **options: Any) -> None:
    """A large picture."""
    Image.fromarray(smooth(side, channels)).save(path, **options)


def many_scans(path: Path, side: int, scans: int) -> None:
    """A progressive JPEG that goes over its pixels again and again."""
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, "jpeg", progressive=True)
    content = buffer.getvalue()
    last = content[content.rindex(b"\xff\xda") : -2]
    path.write_bytes(content[:-2] + last * scans + content[-2:])


def many_chunks(path: Path, chunks: int) -> None:
    """A PNG with empty chunks that nobody knows."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "png")
    content = buffer.getvalue()
    chunk = struct.pack(">I4sI", 0, b"abCd", zlib.crc32(b"abCd"))
    path.write_bytes(content[:33] + chunk * chunks + content[33:])


def kinds(side: int) -> dict[str, tuple[str, Callable[[Path], None]]]:
    """What is measured: name → file name and what writes it."""
    return {
        "JPEG": ("a.jpg", lambda path: saved(path, side, 3)),
        "JPEG, progressive": ("b.jpg", lambda path: saved(path, side, 3, progressive=True, subsampling=0)),
        "PNG, RGB": ("a.png", lambda path: saved(path, side, 3, compress_level=1)),
        "PNG, RGBA": ("b.png", lambda path: saved(path, side, 4, compress_level=1)),
        "PNG, 16 bits": (
            "c.png",
            lambda path: Image.fromarray(smooth(side, 1).astype(np.uint16) * 257).save(path, compress_level=1),
        ),
        "TIFF, floats": ("a.tif", lambda path: Image.fromarray(smooth(side, 1).astype(np.float32)).save(path)),
        "TIFF, deflated": ("b.tif", lambda path: saved(path, side, 3, compression="tiff_deflate")),
        "BMP": ("a.bmp", lambda path: saved(path, side, 3)),
        "GIF": ("a.gif", lambda path: saved(path, side, 1)),
        "PPM, plain text": (
            "a.ppm",
            lambda path: path.write_bytes(b"P3 %d %d 255\n" % (side, side) + b"9 " * (3 * side * side)),
        ),
        "WebP": ("a.webp", lambda path: saved(path, side, 4, method=0)),
        "AVIF": ("a.avif", lambda path: saved(path, side, 4, speed=10)),
        "JPEG 2000": ("a.jp2", lambda path: saved(path, side, 3)),
        "JPEG, 5,000 scans of 4 megapixels": ("s.jpg", lambda path: many_scans(path, 2000, 5000)),
        "JPEG, 100 scans of 16 megapixels": ("t.jpg", lambda path: many_scans(path, 4000, 90)),
        "PGM, comment of 50 MB": (
            "c.pgm",
            lambda path: path.write_bytes(b"P5\n#" + b" " * 50_000_000 + b"\n1 1 255\n0"),
        ),
        "PNG, a million chunks": ("m.png", lambda path: many_chunks(path, 1_000_000)),
    }


def measured(path: Path, answers: Any) -> None:
    """Read one picture, in a process of its own."""
    asked = []
    original = decoding.memory.ask
    decoding.memory.ask = lambda count: (asked.append(count), original(count))[1]  # type: ignore[method-assign]
    read_image(np.zeros((8, 8, 3), np.uint8))
    before, processor = _peak(), time.process_time()
    try:
        width, height = read_image(path).size
        end = f"{width} x {height}"
    except ImageError as error:
        end = f"refused: {error}"
    answers.put((time.process_time() - processor, _peak() - before, sum(asked), end))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def table(megapixels: float) -> None:
    """Print time and memory of each kind."""
    side = int((megapixels * 1e6) ** 0.5)
    context = multiprocessing.get_context("spawn")
    print(f"{'picture':<36}{'file MB':>9}{'s':>7}{'peak MB':>9}{'asked MB':>10}  end")
    with tempfile.TemporaryDirectory() as folder:
        for name, (file, _) in kinds(side).items():
            path = Path(folder) / file
            writer = context.Process(target=_write, args=(side, name, path))
            writer.start()
            writer.join()
            if not path.exists():
                print(f"{name:<36}  cannot be written at this size")
                continue
            answers = context.Queue()
            process = context.Process(target=measured, args=(path, answers))
            process.start()
            seconds, peak, asked, end = answers.get(timeout=600)
            process.join()
            size = path.stat().st_size / 1e6
            print(f"{name:<36}{size:>9.1f}{seconds:>7.1f}{peak / 1e6:>9.0f}{asked / 1e6:>10.0f}  {end}", flush=True)
            path.unlink()


def _write(side: int, name: str, path: Path) -> None:
    kinds(side)[name][1](path)


def draft() -> None:
    """Print what smaller decoding of JPEG would change."""
    from sklearn.datasets import load_sample_images

    encoder = load_encoder("embedded")
    sizes = {"size": 224, "crop_size": 224, "rescale_factor": 1.0, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    pixels = Preprocessing.from_config(json.loads(json.dumps(sizes)))
    print(f"{'picture':>13}{'decoded':>13}{'1 - cosine':>13}{'largest':>9}{'rms':>7}   of 255 at 224 pixels")
    for scale in (1, 3, 6, 12):
        for shrink in (2, 4, 8):
            rows = [_draft(encoder, pixels, picture, scale, shrink) for picture in load_sample_images().images]
            (size, small), (cosine, largest, rms) = rows[0][:2], np.max([row[2:] for row in rows], axis=0)
            print(f"{size:>13}{small:>13}{cosine:>13.1e}{largest:>9.1f}{rms:>7.2f}")


def _draft(encoder: Any, pixels: Any, picture: Any, scale: int, shrink: int) -> tuple[str, str, float, float, float]:
    large = Image.fromarray(picture).resize((640 * scale, 427 * scale), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, 6, np.asarray(large).shape)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(large) + noise, 0, 255).astype(np.uint8)).save(buffer, "jpeg", quality=90)
    full, small = (Image.open(io.BytesIO(buffer.getvalue())) for _ in range(2))
    small.draft("RGB", (full.width // shrink, full.height // shrink))
    full, small = full.convert("RGB"), small.convert("RGB")
    first, second = encoder.project_image(
        encoder.forward_pixels(np.stack([encoder.preprocess(i) for i in (full, small)]))
    )
    difference = pixels(full) - pixels(small)
    names = [f"{image.width}x{image.height}" for image in (full, small)]
    rms = float((difference**2).mean() ** 0.5)
    return names[0], names[1], 1 - float(first @ second), float(np.abs(difference).max()), rms


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megapixels", type=float, default=99.0)
    parser.add_argument("--draft", action="store_true")
    given = parser.parse_args()
    if given.draft:
        draft()
    else:
        table(given.megapixels)
