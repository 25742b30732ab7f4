"""No picture stalls the threads that decode or takes all memory: scans, headers, time, pipes and the shared budget."""

from __future__ import annotations

import os
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isomix.encoders import decoding, images
from isomix.encoders.decoding import GuardedBytes, MemoryBudget, check_scans
from isomix.encoders.images import read_image
from isomix.errors import ImageError


def progressive(scans: int, side: int = 64, exif: bytes = b"") -> bytes:
    """A JPEG with that many more scans than usual."""
    buffer = BytesIO()
    Image.new("L", (side, side), 9).save(buffer, "jpeg", progressive=True, exif=exif)
    content = buffer.getvalue()
    return content[:-2] + content[content.rindex(b"\xff\xda") : -2] * scans + content[-2:]


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    with pytest.raises(ImageError, match="more than 100 scans"):
        read_image(progressive(5000))
    assert read_image(progressive(0)).size == (64, 64)


def test_the_larger_the_picture_the_fewer_scans() -> None:
    content = progressive(30)
    check_scans(content, 1.0)
    with pytest.raises(ImageError, match="more than 16 scans for 99"):
        check_scans(content, 99.0)


def test_marks_of_scans_within_a_segment_do_not_count() -> None:
    content = progressive(0, exif=b"Exif\0\0" + b"\xff\xda" * 500)
    assert content.count(b"\xff\xda") > 500
    check_scans(content, 1.0)


def test_a_header_that_never_ends_is_refused() -> None:
    with pytest.raises(ImageError, match="goes on and on"):
        read_image(b"P5\n#" + b" " * 1_000_000 + b"\n1 1 255\n0")


def test_time_is_up_while_a_decoder_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"P3 300 300 255\n" + b"9 " * 270_000
    assert read_image(content).size == (300, 300)
    monkeypatch.setattr(decoding, "SECONDS", -1.0)
    with pytest.raises(ImageError, match="not decoded within"):
        read_image(content)


def test_the_guard_reads_what_is_there() -> None:
    stream = GuardedBytes(b"abc")
    assert (stream.read(2), stream.read()) == (b"ab", b"c")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_in_the_place_of_a_file_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swapped in between the look at the file and its opening."""
    regular = tmp_path / "a.png"
    Image.new("L", (4, 4)).save(regular)
    status = regular.stat()
    pipe = tmp_path / "b.png"
    os.mkfifo(pipe)
    monkeypatch.setattr(Path, "stat", lambda self, **options: status)
    answers: list[str] = []

    def read() -> None:
        try:
            read_image(pipe)
        except ImageError as error:
            answers.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert answers == ["not a regular file"]


def test_a_file_of_too_many_bytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "video.jpg"
    with path.open("wb") as file:
        file.truncate(60_000_000)
    with pytest.raises(ImageError, match="60 MB are too many for a picture of at most 1 megapixels"):
        read_image(path, max_megapixels=1)


def test_threads_wait_for_memory_and_the_first_never_does() -> None:
    budget = MemoryBudget(100)
    events: list[str] = []
    second_asks = threading.Event()

    def second() -> None:
        with budget.held():
            second_asks.set()
            budget.ask(60)
            events.append("second has it")

    with budget.held():
        budget.ask(60)
        thread = threading.Thread(target=second)
        thread.start()
        second_asks.wait(20)
        time.sleep(0.05)
        budget.ask(500)  # more than there is, but who came first goes on
        events.append("first has more")
    thread.join(20)
    assert events == ["first has more", "second has it"]


def test_what_is_held_inside_is_given_back_outside() -> None:
    budget = MemoryBudget(10)
    with budget.held():
        with budget.held():
            budget.ask(7)
        assert sum(budget._held.values()) == 7
    assert budget._held == {}


def test_pictures_ask_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    budget = MemoryBudget(1 << 30)
    monkeypatch.setattr(budget, "ask", asked.append)
    monkeypatch.setattr(images, "memory", budget)
    read_image(progressive(0, side=100))
    assert asked == [100 * 100 * images.BYTES_A_PIXEL[0]]


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_pictures_are_scaled_alike_in_strips_and_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 60_000, (37, 29))
    image = Image.fromarray(values.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    assert image.mode == mode
    whole = np.asarray(read_image(image))
    monkeypatch.setattr(images, "_STRIP", 100)
    np.testing.assert_array_equal(np.asarray(read_image(image)), whole)


def test_a_picture_of_the_caller_is_copied() -> None:
    given = Image.open(BytesIO(progressive(0))).convert("RGB")
    assert read_image(given) is not given
