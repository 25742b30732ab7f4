"""Projectors out of files, folders, the hub's cache and a hub over HTTP, and all that can be wrong with them."""

from __future__ import annotations

import contextlib
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from isomix._safetensors import PartialSafetensors, open_local
from isomix.errors import FileFormatError, InputError, ModelError, OfflineError
from isomix.projectors import Projectors, hub
from isomix.projectors.checkpoints import find_layout

RNG = np.random.default_rng(3)
IMAGE = RNG.normal(size=(4, 6)).astype(np.float32)
TEXT = RNG.normal(size=(4, 4)).astype(np.float32)  # square: only the layout says which way round it is
FILLING = {"vision_model.post_layernorm.weight": np.ones(1000, np.float32)}
CLIP = {
    **FILLING,
    "visual_projection.weight": IMAGE,
    "text_projection.weight": TEXT,
    "logit_scale": np.array(np.log(100.0), np.float32),
}
OPEN_CLIP = {"visual.proj": IMAGE.T.copy(), "text_projection": TEXT.T.copy(), "logit_scale": np.log(np.float32(50))}
ISOMIX = {"image_projector": IMAGE, "text_projector": TEXT, "logit_scale": np.array([26.9], np.float32)}


def write(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    save_file({name: np.asarray(tensor) for name, tensor in tensors.items()}, path)
    return path


def write_split(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    """One shard a tensor, and the index."""
    names = {name: f"model-{n:05}-of-{len(tensors):05}.safetensors" for n, name in enumerate(tensors, 1)}
    for name, shard in names.items():
        write(folder / shard, {name: tensors[name]})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return folder


def expect(projectors: Projectors, source: str | None = None) -> None:
    np.testing.assert_array_equal(projectors.image, IMAGE)
    np.testing.assert_array_equal(projectors.text, TEXT)
    if source is not None:
        assert projectors.source == source


# -------------------------------------------------------------------------------------------------- files and folders


@pytest.mark.parametrize(("tensors", "scale"), [(CLIP, 100.0), (OPEN_CLIP, 50.0), (ISOMIX, 26.9)])
def test_known_layouts_come_out_the_right_way_round(
    tmp_path: Path, tensors: dict[str, np.ndarray], scale: float
) -> None:
    projectors = Projectors.from_pretrained(str(write(tmp_path / "w.safetensors", tensors)))
    expect(projectors)
    assert projectors.logit_scale == pytest.approx(scale, rel=1e-6)


BIAS = np.array([1, -2, 3, -4], np.float32)


@pytest.mark.parametrize(
    ("image", "image_bias"),
    [
        ({"visual.proj": IMAGE.T.copy()}, None),
        ({"visual.head.proj.weight": IMAGE}, None),
        ({"visual.trunk.head.weight": IMAGE, "visual.trunk.head.bias": BIAS}, BIAS),  # EVA-02
        ({"visual.trunk.head.weight": IMAGE, "visual.trunk.head.bias": 0 * BIAS}, None),  # PE-Core, as converted
        ({"visual.trunk.head.fc.weight": IMAGE, "visual.trunk.head.fc.bias": BIAS}, BIAS),
        ({"visual.attnpool.c_proj.weight": IMAGE, "visual.attnpool.c_proj.bias": BIAS}, BIAS),
    ],
)
@pytest.mark.parametrize(
    ("text", "text_bias"),
    [
        ({"text_projection": TEXT.T.copy()}, None),
        ({"text.text_projection": TEXT.T.copy()}, None),
        ({"text_projection.weight": TEXT, "text_projection.bias": BIAS}, BIAS),
        ({"text.text_projection.weight": TEXT, "text.text_projection.bias": BIAS}, BIAS),
        ({"text.proj.weight": TEXT}, None),
    ],
)
def test_layouts_of_open_clip(
    tmp_path: Path,
    image: dict[str, np.ndarray],
    image_bias: np.ndarray | None,
    text: dict[str, np.ndarray],
    text_bias: np.ndarray | None,
) -> None:
    path = write(tmp_path / "open_clip_model.safetensors", {**FILLING, **image, **text})
    projectors = Projectors.from_pretrained(f"openclip:local-dir:{tmp_path}")
    expect(projectors, f"openclip:local-dir:{tmp_path}")
    np.testing.assert_equal(projectors.image_bias, image_bias)
    np.testing.assert_equal(projectors.text_bias, text_bias)
    assert projectors.linearised_at == ""
    expect(Projectors.from_pretrained(f"openclip:ViT-B-32/{path}"))


SIGLIP_HEAD = {
    "norm.weight": RNG.normal(size=4),
    "norm.bias": RNG.normal(size=4),
    "mlp.fc1.weight": RNG.normal(size=(16, 4)),
    "mlp.fc1.bias": RNG.normal(size=16),
    "mlp.fc2.weight": RNG.normal(size=(4, 16)),
    "mlp.fc2.bias": RNG.normal(size=4),
}


@pytest.mark.parametrize("kind", ["transformers", "open_clip"])
def test_the_head_of_a_siglip_is_linearised_at_the_origin(tmp_path: Path, kind: str) -> None:
    transformers = kind == "transformers"
    before = "vision_model.head." if transformers else "visual.trunk.attn_pool."
    after = "text_model.head" if transformers else "text.text_projection"
    head = {before + (n.replace("norm", "layernorm") if transformers else n): t for n, t in SIGLIP_HEAD.items()}
    tensors = {**FILLING, **head, f"{after}.weight": TEXT, f"{after}.bias": BIAS}
    tensors = {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}
    projectors = Projectors.from_pretrained(str(write(tmp_path / "w.safetensors", tensors)))
    gamma, beta, W1, b1, W2, b2 = SIGLIP_HEAD.values()
    np.testing.assert_allclose(projectors.image, np.eye(4) + W2 @ W1 @ np.diag(gamma) / 2, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(projectors.image_bias, W2 @ (W1 @ beta + b1) / 2 + b2, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(projectors.text, TEXT)
    np.testing.assert_array_equal(projectors.text_bias, BIAS)
    assert projectors.linearised_at == "origin"

    turned = {name: t.T.copy() if name.endswith((".fc1.weight", ".fc2.weight")) else t for name, t in tensors.items()}
    with pytest.raises(ModelError, match="do not fit together"):
        Projectors.from_pretrained(str(write(tmp_path / "w.safetensors", turned)))


def test_without_a_scale_there_is_none(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in CLIP.items() if name != "logit_scale"}
    assert Projectors.from_pretrained(str(write(tmp_path / "w.safetensors", tensors))).logit_scale is None


def test_folder_split_folder_and_saved_file(tmp_path: Path) -> None:
    whole, split, other = tmp_path / "whole", tmp_path / "split", tmp_path / "other"
    for folder in (whole, split, other):
        folder.mkdir()
    write(whole / "model.safetensors", CLIP)
    expect(Projectors.from_pretrained(str(whole)), f"hf:{whole}")
    expect(Projectors.from_pretrained(f"hf:{whole}", offline=True), f"hf:{whole}")
    expect(Projectors.from_pretrained(str(write_split(split, CLIP))))
    write(other / "open_clip_model.safetensors", OPEN_CLIP)
    expect(Projectors.from_pretrained(str(other)))
    saved = tmp_path / "saved.safetensors"
    Projectors(IMAGE, TEXT, source="hf:openai/clip-vit-base-patch32").save(saved)
    expect(Projectors.from_pretrained(str(saved)), "hf:openai/clip-vit-base-patch32")


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_other_precisions(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "w.safetensors"
    if dtype == "bfloat16":
        torch = pytest.importorskip("torch")
        from safetensors.torch import save_file as save_torch

        half = {name: torch.tensor(tensor).to(torch.bfloat16) for name, tensor in CLIP.items()}
        save_torch(half, path)
        expected = half["visual_projection.weight"].float().numpy()
    else:
        write(path, {name: tensor.astype(dtype) for name, tensor in CLIP.items()})
        expected = IMAGE.astype(dtype)
    projectors = Projectors.from_pretrained(str(path))
    np.testing.assert_array_equal(projectors.image, expected)
    assert projectors.image.dtype == (np.float64 if dtype == "float64" else np.float32)


def expect_text(projectors: Projectors, bias: np.ndarray | None = None) -> None:
    assert projectors.image is None and projectors.image_bias is None and projectors.linearised_at == ""
    np.testing.assert_array_equal(projectors.text, TEXT)
    np.testing.assert_equal(projectors.text_bias, bias)


MLP_HEAD = {"visual.head.mlp.fc1.weight": IMAGE, "text.text_projection": TEXT.T.copy()}
TEXT_TOWER = {"text_model.final_layer_norm.weight": np.ones(4, np.float32), "text_projection.weight": TEXT}


@pytest.mark.parametrize("tensors", [CLIP, OPEN_CLIP, ISOMIX, MLP_HEAD, TEXT_TOWER])
def test_the_text_projector_alone(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    path = write(tmp_path / "w.safetensors", {**FILLING, **tensors})
    expect_text(Projectors.from_pretrained(str(path), text_only=True))
    if tensors in (MLP_HEAD, TEXT_TOWER):
        with pytest.raises(ModelError, match=r"MLP|no pair of projectors"):
            Projectors.from_pretrained(str(path))


@pytest.mark.parametrize(
    ("tensors", "alone"),
    [
        (CLIP, False),
        (OPEN_CLIP, False),
        (
            {"visual.trunk.head.weight": IMAGE, "visual.trunk.head.bias": 0 * BIAS, "text_projection.weight": TEXT},
            False,
        ),
        ({"visual.trunk.head.weight": IMAGE, "visual.trunk.head.bias": BIAS, "text_projection.weight": TEXT}, True),
        (MLP_HEAD, True),
        (TEXT_TOWER, True),
    ],
)
def test_the_text_projector_where_the_image_head_is_no_matrix(tmp_path: Path, tensors: dict, alone: bool) -> None:
    projectors = Projectors.from_pretrained(str(write(tmp_path / "w.safetensors", tensors)), text_only=None)
    (expect_text if alone else expect)(projectors)


@pytest.mark.parametrize("text_only", [True, None])
def test_the_text_side_of_a_siglip(tmp_path: Path, text_only: bool | None) -> None:
    head = {f"vision_model.head.{n.replace('norm', 'layernorm')}": t.astype(np.float32) for n, t in SIGLIP_HEAD.items()}
    tensors = {**head, "text_model.head.weight": TEXT, "text_model.head.bias": BIAS}
    path = write(tmp_path / "w.safetensors", tensors)
    expect_text(Projectors.from_pretrained(str(path), text_only=text_only), BIAS)


def test_the_text_side_of_packaged_and_saved_projectors(tmp_path: Path) -> None:
    assert Projectors.from_pretrained("embedded", text_only=True).image is None
    assert Projectors.from_pretrained("embedded", text_only=None).image is not None
    Projectors(IMAGE, TEXT, image_bias=BIAS, source="hf:a/b").save(tmp_path / "p.safetensors")
    for text_only in (True, None):
        alone = Projectors.from_pretrained(str(tmp_path / "p.safetensors"), text_only=text_only)
        expect_text(alone)
        assert alone.source == "hf:a/b"


def test_a_model_without_a_text_head(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", {"visual_projection.weight": IMAGE})
    for text_only in (True, None):
        with pytest.raises(ModelError, match="no text projector at any place that isomix knows"):
            Projectors.from_pretrained(str(path), text_only=text_only)


def test_only_the_bytes_of_the_projectors_are_read(tmp_path: Path) -> None:
    data = save({name: np.asarray(tensor) for name, tensor in CLIP.items()})
    read: list[tuple[int, int]] = []

    def slice_of(start: int, stop: int) -> bytes:
        read.append((start, stop))
        return data[start:stop]

    stored = PartialSafetensors.open("test", slice_of, len(data))
    np.testing.assert_array_equal(stored.tensor("visual_projection.weight"), IMAGE)
    header = 8 + struct.unpack("<Q", data[:8])[0]
    assert sum(stop - start for start, stop in read) == header + IMAGE.nbytes


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"encoder.weight": IMAGE}, "none of its 1 tensors looks similar"),
        ({"my.visual_projection.weight": IMAGE, "x": TEXT}, "look similar: my.visual_projection.weight"),
        ({"visual.head.mlp.fc1.weight": IMAGE, "text_projection": TEXT}, "image head is an MLP.*TextPCA"),
        (
            {**CLIP, "text_projection.weight": RNG.normal(size=(5, 5)).astype(np.float32)},
            "do not fit.*same number of rows",
        ),
        ({**CLIP, "visual_projection.weight": IMAGE[0]}, "two dimensions"),
        ({**CLIP, "visual_projection.weight": IMAGE.astype(np.int8)}, "stored as I8.*unquantised"),
        ({**CLIP, "visual_projection.weight": IMAGE * np.float32(np.nan)}, "NaN"),
    ],
)
def test_unusable_tensors(tmp_path: Path, tensors: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Projectors.from_pretrained(str(write(tmp_path / "w.safetensors", tensors)))


def test_unusable_files_and_folders(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", CLIP)
    whole = path.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    damaged = whole.replace(b'"shape":[4,6]', b'"shape":[4,7]')
    assert damaged != whole
    for content, message in (
        (b"", "0 bytes"),
        (b"PK\x03\x04 a pickle of torch", "no safetensors file"),
        (whole[:-7], "incomplete"),
        (whole + b"x", "incomplete"),
        (whole[: header - 5], "cut short"),
        (whole[:8] + b"[" + whole[9:], "damaged safetensors header"),
        (damaged, "has shape .* but"),
    ):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=message):
            Projectors.from_pretrained(str(path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    path.unlink()
    with pytest.raises(ModelError, match="only a pickle"):
        Projectors.from_pretrained(str(tmp_path))
    with pytest.raises(ModelError, match="is a pickle"):
        Projectors.from_pretrained(str(tmp_path / "pytorch_model.bin"))
    for name in ("a", "b"):
        write(tmp_path / f"{name}.safetensors", CLIP)
    with pytest.raises(ModelError, match=r"a\.safetensors, b\.safetensors; name one"):
        Projectors.from_pretrained(str(tmp_path))


def test_a_damaged_index(tmp_path: Path) -> None:
    write_split(tmp_path, CLIP)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    for change, message in (
        ("{", "no index of a split model"),
        (json.dumps({"weight_map": dict.fromkeys(CLIP, "../x.safetensors")}), "not a file beside it"),
        (json.dumps({"weight_map": dict.fromkeys(CLIP, "gone.safetensors")}), "cannot be read"),
        (json.dumps({"weight_map": dict.fromkeys(CLIP, content["weight_map"]["logit_scale"])}), "holds no tensor"),
    ):
        index.write_text(change)
        with pytest.raises(ModelError, match=message):
            Projectors.from_pretrained(str(tmp_path))


@pytest.mark.parametrize(
    "content",
    ['{"weight_map": ' + "[" * 100_000, *(json.dumps({"weight_map": {"a": f"x{c}y"}}) for c in ("\0", "\ud800"))],
)
def test_an_index_that_is_nested_without_end_or_names_no_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match=r"is no index|which is not a file beside it"):
        Projectors.from_pretrained(str(tmp_path))


def test_a_file_of_isomix_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(save({"image_projector": IMAGE}, metadata={"isomix": json.dumps({"format": 99})}))
    with pytest.raises(FileFormatError, match="99"):
        Projectors.from_pretrained(str(path))


@pytest.mark.parametrize("model", ["no/such/folder/at/all", "openclip:x", "embedded:large", "hf:a/b/c", "hf:../x"])
def test_names_that_mean_nothing(model: str) -> None:
    with pytest.raises(ModelError):
        Projectors.from_pretrained(model)
    for nothing in ("", "hf:"):
        with pytest.raises(InputError, match="expected a string such as"):
            Projectors.from_pretrained(nothing)


def test_the_first_layout_that_fits_wins() -> None:
    assert find_layout({*CLIP, "visual.proj"}, "x").family == "transformers CLIP"


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        open_local(tmp_path / "gone.safetensors")


# ------------------------------------------------------------------------------------------------------------ the hub


@dataclass
class Hub:
    """A model hub on this machine, with faults that a test switches on."""

    files: dict[str, bytes] = field(default_factory=dict)
    commit: str = "c0ffee"
    fault: Callable[[BaseHTTPRequestHandler, int], bool] = lambda handler, count: False
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    sent: int = 0
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name = unquote(handler.path.rsplit("/", 1)[1])
        wanted = handler.headers.get("Range")
        self.requests.append((name, wanted))
        self.authorizations.append(handler.headers.get("Authorization"))
        if self.fault(handler, len(self.requests)):
            return
        if name not in self.files:
            respond(handler, 404, b"", {"X-Error-Code": "EntryNotFound"})
        elif handler.path.startswith("/content/") or wanted is None:
            self.send(handler, self.files[name], wanted)
        else:
            place = f"{self.url.replace('127.0.0.1', 'localhost')}/content/{name}"
            respond(handler, 302, b"", {"Location": place, "X-Repo-Commit": self.commit})

    def send(self, handler: BaseHTTPRequestHandler, data: bytes, wanted: str | None, cut: int | None = None) -> None:
        if wanted is None:
            return respond(handler, 200, data)
        first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
        if first >= len(data):
            return respond(handler, 416, b"")
        part = data[first : last + 1]
        self.sent += len(part)
        place = {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(data)}"}
        return respond(handler, 206, part, place, cut=cut)


def respond(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    cut: int | None = None,
) -> None:
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[:cut])


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub(files={"model.safetensors": save({name: np.asarray(tensor) for name, tensor in CLIP.items()})})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{running.server_address[1]}"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for name in (
        "HF_TOKEN",
        "HF_HOME",
        "HF_HUB_CACHE",
        "HF_HUB_OFFLINE",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", state.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "_PAUSE_SECONDS", 0.001)
    yield state
    running.shutdown()
    thread.join()
    running.server_close()


def test_two_tensors_come_by_range_requests(server: Hub) -> None:
    server.files["model.safetensors"] = save({**CLIP, "filling": np.zeros(2_000_000, np.float32)})
    projectors = Projectors.from_pretrained("hf:org/model")
    expect(projectors, "hf:org/model")
    assert projectors.logit_scale == pytest.approx(100.0)
    assert server.sent < 2000


@pytest.mark.parametrize("commit", ["../../outside", "C:\\x", "main", "0" * 65, ""])
def test_a_commit_that_is_no_hexadecimal_name_is_no_file_name(server: Hub, tmp_path: Path, commit: str) -> None:
    server.commit = commit
    expect(Projectors.from_pretrained("hf:org/model"), "hf:org/model")
    written = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.safetensors")]
    assert written == ["cache/isomix/projectors/org--model/unknown.safetensors"]


def test_a_tensor_of_terabytes_is_refused_before_it_is_asked_for(server: Hub) -> None:
    huge = {"dtype": "F32", "shape": [1_000_000, 1_000_000], "data_offsets": [0, 4_000_000_000_000]}
    header = json.dumps({"visual_projection.weight": huge, "text_projection.weight": huge}).encode()
    server.files["model.safetensors"] = len(header).to_bytes(8, "little") + header
    with pytest.raises(ModelError, match="announces 4,000,000,000,000 bytes"):
        Projectors.from_pretrained("hf:org/model")


def test_a_header_without_end_and_one_that_is_nested_without_end(server: Hub) -> None:
    server.files["model.safetensors"] = (1 << 60).to_bytes(8, "little") + b"{}"
    with pytest.raises(ModelError, match="no safetensors file"):
        Projectors.from_pretrained("hf:org/model")
    nested = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    server.files["model.safetensors"] = len(nested).to_bytes(8, "little") + nested
    with pytest.raises(ModelError, match="damaged"):
        Projectors.from_pretrained("hf:org/model")


def test_a_sender_that_drips_is_given_up(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_GRACE_SECONDS", 0.2)
    monkeypatch.setattr(hub, "_SLOWEST_BYTES_PER_SECOND", 1 << 30)

    def drip(handler: BaseHTTPRequestHandler, count: int) -> bool:
        if not handler.path.startswith("/content/"):
            return False
        first, last = (int(n) for n in handler.headers["Range"].removeprefix("bytes=").split("-"))
        part = server.files["model.safetensors"][first : last + 1]
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {first}-{last}/9999")
        handler.send_header("Content-Length", str(len(part)))
        handler.end_headers()
        with contextlib.suppress(OSError):  # the client has gone
            for byte in part:
                handler.wfile.write(bytes([byte]))
                time.sleep(0.05)
        return True

    server.fault = drip
    began = time.monotonic()
    with pytest.raises(ModelError, match=r"bytes of model.safetensors in 0 seconds"):
        Projectors.from_pretrained("hf:org/model")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/model.safetensors", "file:///etc/hostname"])
def test_redirects_stay_within_http(server: Hub, place: str) -> None:
    def elsewhere(handler: BaseHTTPRequestHandler, count: int) -> bool:
        respond(handler, 302, b"", {"Location": place})
        return True

    server.fault = elsewhere
    with pytest.raises(ModelError, match=r"redirects to|answers 302"):
        Projectors.from_pretrained("hf:org/model")


def clip_b32() -> dict[str, np.ndarray]:
    """The projectors of a ViT-B/32 in their size, and as many other tensors, under names as long, as it has."""
    layers = ("self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj")
    layers += ("layer_norm1", "mlp.fc1", "mlp.fc2", "layer_norm2")
    names = [
        f"{tower}_model.encoder.layers.{number}.{layer}.{part}"
        for tower in ("text", "vision")
        for number in range(12)
        for layer in layers
        for part in ("weight", "bias")
    ]
    tensors = {name: np.zeros(16, np.float32) for name in names}
    tensors |= {"visual_projection.weight": RNG.normal(size=(512, 768)).astype(np.float32)}
    tensors |= {"text_projection.weight": RNG.normal(size=(512, 512)).astype(np.float32)}
    return tensors | {"logit_scale": np.array(4.6, np.float32)}


def test_a_megabyte_for_the_text_projector_of_a_vit_b32(server: Hub) -> None:
    tensors = clip_b32()
    server.files["model.safetensors"] = save(tensors)
    header = 8 + struct.unpack("<Q", server.files["model.safetensors"][:8])[0]
    alone = Projectors.from_pretrained("hf:org/model", text_only=True)
    np.testing.assert_array_equal(alone.text, tensors["text_projection.weight"])
    assert server.sent == header + alone.text.nbytes + 4  # the logit scale
    assert server.sent < 1_110_000
    both = Projectors.from_pretrained("hf:org/model")
    assert both.image is not None, "what is kept of the text projector is not taken for both"
    offline = Projectors.from_pretrained("hf:org/model", text_only=True, offline=True)
    assert offline.fingerprint == alone.fingerprint != both.fingerprint


def test_the_image_head_of_a_siglip_is_not_transferred(server: Hub) -> None:
    head = {f"vision_model.head.{n.replace('norm', 'layernorm')}": t.astype(np.float32) for n, t in SIGLIP_HEAD.items()}
    server.files["model.safetensors"] = save({**head, "text_model.head.weight": TEXT, "text_model.head.bias": BIAS})
    header = 8 + struct.unpack("<Q", server.files["model.safetensors"][:8])[0]
    expect_text(Projectors.from_pretrained("hf:org/siglip", text_only=None), BIAS)
    assert server.sent == header + TEXT.nbytes + BIAS.nbytes


def test_what_was_read_is_kept_for_the_same_commit_and_offline(server: Hub) -> None:
    with pytest.raises(OfflineError, match="not on this machine"):
        Projectors.from_pretrained("hf:org/model", offline=True)
    assert not server.requests
    first = Projectors.from_pretrained("hf:org/model")
    sent = server.sent
    again = Projectors.from_pretrained("hf:org/model")
    assert server.sent - sent < sent  # the header, to learn the commit; no tensors
    count = len(server.requests)
    offline = Projectors.from_pretrained("hf:org/model", offline=True)
    assert len(server.requests) == count
    assert first.fingerprint == again.fingerprint == offline.fingerprint
    assert offline.source == "hf:org/model" and offline.logit_scale == first.logit_scale
    with pytest.raises(OfflineError):
        Projectors.from_pretrained("hf:org/model", offline=True, revision="other")


def test_a_new_commit_is_read_anew(server: Hub) -> None:
    Projectors.from_pretrained("hf:org/model")
    server.commit = "decade"
    server.files["model.safetensors"] = save({**CLIP, "visual_projection.weight": IMAGE + 1})
    np.testing.assert_array_equal(Projectors.from_pretrained("hf:org/model").image, IMAGE + 1)


def test_a_split_model(server: Hub, tmp_path: Path) -> None:
    folder = write_split(tmp_path, CLIP)
    server.files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    expect(Projectors.from_pretrained("hf:org/model"))
    assert all(name != "model-00001-of-00004.safetensors" for name, _ in server.requests)  # the filling


def save_open_clip(**changes: np.ndarray) -> bytes:
    return save({name: np.asarray(tensor).copy(order="C") for name, tensor in (OPEN_CLIP | changes).items()})


@pytest.mark.parametrize("spec", ["hf:org/model", "openclip:hf-hub:org/model"])
def test_the_file_of_open_clip_is_found(server: Hub, spec: str) -> None:
    server.files = {"open_clip_model.safetensors": save_open_clip(filling=np.zeros(2_000_000, np.float32))}
    expect(Projectors.from_pretrained(spec), spec)
    assert server.sent < 2000
    expect(Projectors.from_pretrained(spec, offline=True), spec)
    other = "openclip:hf-hub:org/model" if spec.startswith("hf:") else "hf:org/model"
    assert Projectors.from_pretrained(other, offline=True).source == other


def test_one_file_among_several(server: Hub) -> None:
    changed = save_open_clip(**{"visual.proj": IMAGE.T + 1})
    server.files = {"a.safetensors": save_open_clip(), "b.safetensors": changed}
    for name, offset in (("a", 0), ("b", 1), ("a", 0), ("b", 1)):
        read = hub.read_from_hub("org/model", filename=f"{name}.safetensors", source="openclip:x/y")
        np.testing.assert_array_equal(read.image, IMAGE + offset)
    assert hub.read_from_hub("org/model", filename="b.safetensors", offline=True).image[0, 0] == IMAGE[0, 0] + 1
    with pytest.raises(ModelError, match=r"has no c\.safetensors.*no pickles"):
        hub.read_from_hub("org/model", filename="c.safetensors")


def test_interrupted_transfers_go_on_where_they_broke_off(server: Hub) -> None:
    interrupted = []

    def fault(handler: BaseHTTPRequestHandler, count: int) -> bool:
        wanted = handler.headers.get("Range")
        if not handler.path.startswith("/content/") or len(interrupted) >= 3:
            return False
        first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
        if last - first < 40:
            return False
        interrupted.append((first, last))
        server.send(handler, server.files["model.safetensors"], wanted, cut=30)
        handler.connection.close()
        return True

    server.fault = fault
    expect(Projectors.from_pretrained("hf:org/model"))
    assert len(interrupted) == 3
    assert [second[0] - first[0] for first, second in pairwise(interrupted)] == [30, 30]


def test_a_busy_server_is_asked_again(server: Hub) -> None:
    def fault(handler: BaseHTTPRequestHandler, count: int) -> bool:
        if count % 3 == 1:
            respond(handler, 503 if count % 2 else 429, b"")
        return count % 3 == 1

    server.fault = fault
    expect(Projectors.from_pretrained("hf:org/model"))


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (500, {}, "did not deliver.*500"),
        (401, {}, "does not exist, or it is private or gated"),
        (403, {"X-Error-Code": "GatedRepo"}, "HF_TOKEN"),
        (404, {"X-Error-Code": "RevisionNotFound"}, "RevisionNotFound"),
        (404, {"X-Error-Code": "EntryNotFound"}, "neither model.safetensors nor"),
        (400, {}, "answers 400"),
        (416, {}, "cut short"),
        (200, {}, "ignores range requests"),
        (206, {}, "sent None for bytes 0-7"),
        (206, {"Content-Range": "bytes 8-15/100"}, "sent 'bytes 8-15/100' for bytes 0-7"),
    ],
)
def test_a_server_that_refuses_or_errs(server: Hub, status: int, headers: dict[str, str], message: str) -> None:
    def fault(handler: BaseHTTPRequestHandler, count: int) -> bool:
        respond(handler, status, b"x" * 5000 if status == 200 else b"12345678", headers)
        return True

    server.fault = fault
    with pytest.raises(ModelError, match=message):
        Projectors.from_pretrained("hf:org/model")


def test_wrong_sizes(server: Hub) -> None:
    whole = server.files["model.safetensors"]
    server.files["model.safetensors"] = whole[: len(whole) - 4300]  # the header is whole, its tensors are not
    with pytest.raises(ModelError, match=r"shorter than its header says|cut short"):
        Projectors.from_pretrained("hf:org/model")
    server.files["model.safetensors"] = struct.pack("<Q", 1 << 40) + bytes(100)
    with pytest.raises(ModelError, match="no safetensors file"):
        Projectors.from_pretrained("hf:org/model")


def test_the_token_goes_to_the_hub_and_nowhere_else(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    Projectors.from_pretrained("hf:org/model")
    assert set(server.authorizations[::2]) == {"Bearer hf_secret"}
    assert set(server.authorizations[1::2]) == {None}  # the redirects


def test_no_server_at_all(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"did not deliver.*name the folder instead"):
        Projectors.from_pretrained("hf:org/model")
    monkeypatch.setenv("HF_ENDPOINT", "nonsense")
    with pytest.raises(ModelError, match="not a URL"):
        Projectors.from_pretrained("hf:org/model")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OfflineError):
        Projectors.from_pretrained("hf:org/model")


def test_the_hubs_own_cache_is_used_first(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    repository = tmp_path / "home/hub/models--org--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("abc123")
    (repository / "snapshots/abc123").mkdir(parents=True)
    write(repository / "snapshots/abc123/model.safetensors", CLIP)
    for revision in (None, "main", "abc123"):
        expect(Projectors.from_pretrained("hf:org/model", offline=True, revision=revision), "hf:org/model")
    assert not server.requests
    with pytest.raises(OfflineError):
        Projectors.from_pretrained("hf:org/model", offline=True, revision="v2")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"../../elsewhere", b"x" * 5000, b"\0", b""])
def test_a_cache_that_names_no_commit_is_none(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    theirs = tmp_path / "home/hub/models--org--model/refs"
    ours = tmp_path / "user/isomix/projectors/org--model"
    for folder, name in ((theirs, "main"), (ours, "main.commit")):
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
    with pytest.raises(OfflineError, match="are not on this machine"):
        Projectors.from_pretrained("hf:org/model", offline=True)
