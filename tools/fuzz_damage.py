"""Damage to bytes, numbers and text, and to parts of a format with its lengths and checksums made right again."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

SEED_LIMIT = 1 << 20

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
    **dict.fromkeys((".json", ".jsonl", ".lock", ".csv", ".tsv", ".txt", ".names"), damage_text),
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
        file = rng.choice(sorted(each for each in path.rglob("*") if each.is_file() and each.stat().st_size) or [None])
        if file is None:
            break
        if rng.random() < 0.1:
            file.unlink()
        else:
            damaged_file(file, rng)
    return path
