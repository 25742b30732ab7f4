"""Every kind of odd file becomes an upright RGB picture or a reason, and never a warning."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from isomix.encoders.images import image_extensions, read_image
from isomix.errors import ImageError, InputError

GRADIENT = np.add.outer(np.arange(40) * 3, np.arange(60) * 2).astype(np.uint8)


def encoded(image: Image.Image, extension: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, extension, **options)
    return buffer.getvalue()


def mean_colour(image: Image.Image) -> list[int]:
    return np.asarray(image).reshape(-1, 3).mean(0).round().astype(int).tolist()


def png(width: int, height: int, *, depth: int = 8, colour: int = 0, data: bytes = b"") -> bytes:
    """A PNG file by hand, for headers that no writer would write."""

    def chunk(kind: bytes, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am a text file called .jpg\n" * 20, "not a picture"),
        (encoded(Image.fromarray(GRADIENT), "PNG")[:10], "not a picture|cannot be decoded"),
        (encoded(Image.effect_noise((64, 64), 50), "PNG")[:2000], "cannot be decoded: .*truncated"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:900], "cannot be decoded: .*truncated"),
        (encoded(Image.fromarray(GRADIENT), "GIF")[:60], "cannot be decoded|not a picture"),
        (png(30_000, 30_000), "megapixels"),
        (png(12_000, 9_000), r"12000 x 9000 pixels = 108.0 megapixels, more than the 100 allowed"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(40), "isomix.heif.|cannot be decoded"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture"),
    ],
)
def test_unusable_content_gives_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "Bild ä 猫.jpg"
    path.write_bytes(content)
    for source in (path, str(path), content):
        with pytest.raises(ImageError, match=reason) as caught:
            read_image(source)
        assert str(tmp_path) not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_missing_file_folder_and_fifo_give_a_reason(tmp_path: Path) -> None:
    import os

    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="a folder"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "pipe.png")


def test_random_damage_never_escapes_as_anything_but_a_reason(rng: np.random.Generator) -> None:
    picture = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112], exif[0x010F] = 6, "maker" * 20
    originals = [encoded(picture, kind, exif=exif) for kind in ("JPEG", "PNG", "TIFF", "WEBP")]
    originals += [encoded(picture, kind) for kind in ("GIF", "BMP", "PPM", "ICO")]
    refused = 0
    for original in originals:
        for _ in range(60):
            damaged = np.frombuffer(original, np.uint8).copy()
            where = (
                rng.integers(0, len(damaged), 8) if rng.random() < 0.5 else rng.integers(0, min(200, len(damaged)), 4)
            )
            damaged[where] = rng.integers(0, 256, len(where), np.uint8)
            try:
                assert read_image(damaged.tobytes(), max_megapixels=1).mode == "RGB"
            except ImageError:
                refused += 1
    assert 0 < refused < 60 * len(originals)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_rotation_is_applied(kind: str) -> None:
    upright = np.zeros((40, 80, 3), np.uint8)
    upright[:, :40] = 255
    stored = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90)
    exif = stored.getexif()
    exif[0x0112] = 6
    image = read_image(encoded(stored, kind, exif=exif))
    assert image.size == (80, 40)
    assert np.abs(np.asarray(image, int) - upright).mean() < 3


def test_truncated_exif_leaves_the_picture_usable() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 3, "a camera"
    broken = exif.tobytes()[:-12]
    assert read_image(encoded(Image.fromarray(GRADIENT), "JPEG", exif=broken)).size == (60, 40)


def test_cmyk_and_ycbcr_jpeg() -> None:
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    assert mean_colour(read_image(encoded(red.convert("CMYK"), "JPEG")))[0] > 240
    assert mean_colour(read_image(encoded(red.convert("CMYK"), "TIFF"))) == [255, 0, 0]
    assert mean_colour(read_image(encoded(red.convert("YCbCr"), "JPEG")))[0] > 240


def test_sixteen_bit_greyscale_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(8, 0)
    expected = np.arange(256)
    for kind in ("PNG", "TIFF", "PPM", "JPEG2000"):
        image = read_image(encoded(Image.fromarray(ramp), kind))
        assert np.abs(np.asarray(image)[0, :, 0].astype(int) - expected).max() <= 1, kind
    big_endian = Image.frombytes("I;16B", (256, 8), ramp.astype(">u2").tobytes())
    assert np.abs(np.asarray(read_image(big_endian))[0, :, 1].astype(int) - expected).max() <= 1


def test_a_dark_sixteen_bit_picture_stays_dark() -> None:
    dark = np.full((8, 8), 200, np.uint16)
    for kind in ("PNG", "TIFF", "PPM"):
        assert np.asarray(read_image(encoded(Image.fromarray(dark), kind))).max() <= 1, kind


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.float32([[0, 0.5, 1]]), [0, 128, 255]),
        (np.float32([[0, 100, 255]]), [0, 100, 255]),
        (np.float32([[-10, 0, 10]]), [0, 128, 255]),
        (np.float32([[np.nan, np.inf, 1]]), [0, 0, 255]),
        (np.float32([[0, 0, 0]]), [0, 0, 0]),
        (np.int32([[0, 128, 255]]), [0, 128, 255]),
        (np.int32([[0, 32768, 65535]]), [0, 128, 255]),
        (np.int32([[1_000_000, 1_500_000, 2_000_000]]), [0, 128, 255]),
    ],
)
def test_floats_and_32_bit_integers_are_scaled(values: np.ndarray, expected: list[int]) -> None:
    for kind in ("TIFF", "PPM") if values.dtype == np.float32 else ("TIFF",):
        stored = encoded(Image.fromarray(values), kind)
        assert np.abs(np.asarray(read_image(stored))[0, :, 0].astype(int) - expected).max() <= 1, kind


def test_transparency_is_composited_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert mean_colour(read_image(encoded(clear, "PNG"))) == [255, 255, 255]
    assert mean_colour(read_image(encoded(half, "WEBP", lossless=True))) == [127, 127, 127]
    assert mean_colour(read_image(encoded(Image.new("LA", (8, 8), (0, 0)), "PNG"))) == [255, 255, 255]
    assert mean_colour(read_image(half.convert("RGBa"))) == [127, 127, 127]
    assert mean_colour(read_image(Image.new("LA", (8, 8), (0, 0)).convert("La"))) == [255, 255, 255]
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 0, 0, 255])
    assert mean_colour(read_image(encoded(palette, "PNG"))) == [0, 0, 255]
    assert mean_colour(read_image(encoded(palette, "PNG", transparency=1))) == [255, 255, 255]
    assert mean_colour(read_image(encoded(palette, "PNG", transparency=b"\xff\x00"))) == [255, 255, 255]
    assert mean_colour(read_image(encoded(palette, "GIF", transparency=1))) == [255, 255, 255]
    assert mean_colour(read_image(palette.convert("PA"))) == [0, 0, 255]
    keyed = Image.new("RGB", (8, 8), (1, 2, 3))
    assert mean_colour(read_image(encoded(keyed, "PNG", transparency=(1, 2, 3)))) == [255, 255, 255]


def test_bilevel_and_animated() -> None:
    assert mean_colour(read_image(encoded(Image.new("1", (9, 9), 1), "PNG"))) == [255, 255, 255]
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        animation = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert mean_colour(read_image(animation)) == [255, 0, 0], kind


def test_absurd_aspect_ratios_and_wide_pictures() -> None:
    for size in ((30_000, 20), (30_000, 1), (1, 30_000), (1, 1)):
        assert read_image(encoded(Image.new("L", size, 7), "PNG")).size == size


def test_the_limit_may_be_raised_above_pillows_own_and_is_put_back() -> None:
    before = Image.MAX_IMAGE_PIXELS
    wide = png(30_000, 6_500, depth=1)  # 195 megapixels without data; Pillow alone refuses from 179 on
    with pytest.raises(ImageError, match="more than the 100 megapixels"):
        read_image(wide)
    with pytest.raises(ImageError, match=r"cannot be decoded: .*truncated"):
        read_image(wide, max_megapixels=200)
    assert read_image(encoded(Image.new("1", (12_000, 8_000)), "PNG")).size == (12_000, 8_000)
    assert before == Image.MAX_IMAGE_PIXELS


def test_filters_of_warnings_are_left_as_they_were_by_overlapping_threads() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    noisy = encoded(Image.effect_noise((300, 300), 50), "JPEG", exif=exif.tobytes()[:-6])
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [read_image(noisy) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(noisy)
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_arrays() -> None:
    assert read_image(GRADIENT).size == (60, 40)
    assert mean_colour(read_image(np.zeros((4, 4, 4), np.uint8))) == [255, 255, 255]
    with pytest.raises(InputError, match="uint8"):
        read_image(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(InputError, match="channels last"):
        read_image(np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(ImageError, match="no pixels"):
        read_image(np.zeros((0, 8, 3), np.uint8))
    with pytest.raises(InputError, match="NoneType"):
        read_image(None)
    with pytest.raises(InputError, match="max_megapixels"):
        read_image(GRADIENT, max_megapixels=0)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif() -> None:
    assert read_image(encoded(Image.fromarray(GRADIENT), "AVIF")).size == (60, 40)


def test_extensions_are_lower_case_with_a_dot() -> None:
    assert {".jpg", ".png", ".heic", ".webp"} <= image_extensions()
    assert all(extension == extension.lower() and extension.startswith(".") for extension in image_extensions())
