"""ONNX graphs: the map of a space alone, and a whole image encoder that ends in it."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isomix._extras import require
from isomix.encoders.base import Encoder
from isomix.errors import InputError, ModelError
from isomix.exports.affine import AffineMap, affine_map, check_width
from isomix.exports.folding import require_plain
from isomix.spaces.isoclip import IsoCLIP
from isomix.spaces.plain import PreProjection

if TYPE_CHECKING:
    from isomix.spaces.base import Space

__all__ = ["export_image_encoder", "to_onnx"]

# Old enough for any runtime of the last years; the packaged towers have the same, so that graphs can be joined.
_OPSET = 17
_IR_VERSION = 8
_OUTPUT = "adapted"
_LARGEST = 2**31  # bytes of one protobuf message


def to_onnx(space: Space, path: str | os.PathLike[str], source: str = "embeddings") -> None:
    """See :meth:`isomix.spaces.Space.to_onnx`."""
    onnx, target = require("onnx", "onnx", "to_onnx"), _target(path)
    _write(onnx, _head(onnx, [affine_map(space, source)], source), target, _metadata(space))


def export_image_encoder(model: Any, space: Space, path: str | os.PathLike[str]) -> None:
    """Write a whole image encoder that returns adapted vectors as one ONNX file.

    Parameters
    ----------
    model : transformers CLIP, open_clip model or isomix Encoder
        With the space's own projectors, not folded: the map is part of the graph. It is left as it is.
        A head with a bias or one that is not linear needs an Encoder, and a SigLIP 2 of any aspect ratio will not do.
    space : Space
        A fitted space of image embeddings.
    path : path
        Input ``pixels`` of shape (n, 3, height, width), preprocessed as the model expects; output ``adapted`` of shape
        (n, k), unit rows, both float32. An existing file is replaced.

    Raises
    ------
    ModelError
        Another model's projectors, a model of an unknown kind, or one with 2 GiB of weights or more.
    InputError
        A space of text embeddings, of pre-projection features, or of another width.
    MissingExtraError
        ``onnx``, or for torch models ``onnxscript``, is not installed.

    Notes
    -----
    The file's metadata hold the fingerprint of the space and, for an isomix encoder, the fingerprint of the model and
    its preprocessing as JSON.

    Examples
    --------
    >>> import numpy as np, onnxruntime, os, tempfile
    >>> from isomix import IsoCLIP, load_encoder
    >>> encoder = load_encoder("embedded")
    >>> iso = IsoCLIP(encoder.projectors).fit()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_image_encoder(encoder, iso, os.path.join(folder, "image.onnx"))
    ...     session = onnxruntime.InferenceSession(os.path.join(folder, "image.onnx"))
    >>> session.run(["adapted"], {"pixels": np.zeros((2, 3, 64, 64), np.float32)})[0].shape == (2, iso.n_components_)
    True
    """
    onnx, target = require("onnx", "onnx", "export_image_encoder"), _target(path)
    if space.modality != "image":
        raise InputError("space: it was made for text embeddings. An image encoder needs one with modality='image'.")
    if isinstance(space, PreProjection):
        raise InputError("space: pre-projection features need no space. Export the image tower without its projector.")
    if isinstance(space, IsoCLIP):
        _check_projectors(space, model)
    about = _metadata(space)
    if isinstance(model, Encoder):
        about |= {"isomix.model": model.fingerprint, "isomix.preprocessing": json.dumps(model.preprocessing)}
        if model.scheme == "embedded":
            _write(onnx, _joined(onnx, model, space), target, about)
            return
    _write(onnx, _traced(model, space), target, about)


def _check_projectors(space: IsoCLIP, model: Any) -> None:
    """Refuse another model's projectors; a head that is not linear may be linearised elsewhere than in the encoder."""
    pair = space.projectors
    if not (isinstance(model, Encoder) and model.image_head is not None and pair.linearised_at):
        require_plain(space, model)
    elif not np.array_equal(pair.text, model.projectors.text):
        raise ModelError(
            f"the projectors of this encoder ({model.spec}) are not those of the space "
            f"({pair.source or 'no source given'}). Fit the space on encoder.linearise(features).apply_to("
            "encoder.projectors)."
        )


def _head(onnx: Any, stages: Sequence[AffineMap], source: str) -> Any:
    """Affine maps, each followed by normalisation, as a model from ``source`` to ``adapted``."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes, constants, value = [], [], source
    for number, (weight, bias) in enumerate(stages):
        inputs = [value, f"isomix_weight_{number}"]
        constants.append(numpy_helper.from_array(np.asarray(weight, np.float32), inputs[1]))
        if bias is not None:
            inputs.append(f"isomix_bias_{number}")
            constants.append(numpy_helper.from_array(np.asarray(bias, np.float32), inputs[2]))
        value = _OUTPUT if number == len(stages) - 1 else f"isomix_unit_{number}"
        nodes.append(helper.make_node("Gemm", inputs, [f"isomix_mapped_{number}"], transB=1))
        nodes.append(helper.make_node("LpNormalization", [f"isomix_mapped_{number}"], [value], axis=-1, p=2))
    float32 = onnx.TensorProto.FLOAT
    into = helper.make_tensor_value_info(source, float32, ["n", stages[0].weight.shape[1]])
    out = helper.make_tensor_value_info(_OUTPUT, float32, ["n", stages[-1].weight.shape[0]])
    return helper.make_model(
        helper.make_graph(nodes, "isomix", [into], [out], constants),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )


def _joined(onnx: Any, encoder: Encoder, space: Space) -> Any:
    """The packaged image tower, its projector and the space in one graph."""
    projector = AffineMap(np.asarray(encoder.projectors.image, np.float64), None)
    mapped = affine_map(space)
    check_width(mapped.weight.shape[1], encoder.embedding_dim)
    tower = onnx.load_model_from_string((files("isomix.encoders") / "weights" / "image.onnx").read_bytes())
    head = _head(onnx, [projector, mapped], "features")
    return onnx.compose.merge_models(tower, head, io_map=[("features", "features")])


def _traced(model: Any, space: Space) -> Any:
    """A torch image tower with its projector and the space, through torch's exporter."""
    require("onnxscript", "onnx", "ONNX export of a torch model")
    torch = require("torch", "hf", "ONNX export of a torch model")
    from isomix.exports.torch_module import ImageEncoder

    encoder = ImageEncoder(model, space)
    size = 4 * sum(weight.numel() for weight in encoder.state_dict().values())
    if size >= _LARGEST:
        raise ModelError(
            f"model: its image tower has {size / 2**30:.1f} GiB of weights, and one ONNX file holds less than 2 GiB. "
            "Export the model with its own tools, and put the graph of space.to_onnx behind it."
        )
    pixels = torch.zeros(2, 3, *encoder.image_size)  # a batch of 1 would be taken for a constant
    with _quiet_exporter():
        program = torch.onnx.export(
            encoder,
            (pixels,),
            input_names=["pixels"],
            output_names=[_OUTPUT],
            dynamic_shapes={"pixels": {0: torch.export.Dim("n")}},
            dynamo=True,
            verbose=False,
        )
    return program.model_proto


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without torch's remarks on its own internals, and on a torchvision that is not needed."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _metadata(space: Space) -> dict[str, str]:
    from isomix import __version__

    return {"isomix.version": __version__, "isomix.method": space.method, "isomix.space": space.fingerprint}


def _target(path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    if not target.parent.is_dir():
        raise InputError(f"{target.parent} is not a folder, so {target.name} cannot be written there. Create it first.")
    return target


def _write(onnx: Any, model: Any, target: Path, about: dict[str, str]) -> None:
    model.producer_name, model.producer_version = "isomix", about["isomix.version"]
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    onnx.save_model(model, target)
