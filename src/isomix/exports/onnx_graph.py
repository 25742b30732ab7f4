"""ONNX graphs: the map of a space alone, and a whole image encoder that ends in it."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from isomix._affine import AffineMap
from isomix._extras import require
from isomix._files import check_target, writing
from isomix.encoders.base import Encoder
from isomix.encoders.embedded import EmbeddedEncoder
from isomix.errors import InputError, ModelError
from isomix.exports.contract import FittedSpace, ProjectorSpace, check_width, is_made_from_projectors
from isomix.exports.folding import require_plain, require_text

__all__ = ["export_image_encoder", "to_onnx"]

# Old enough for any runtime of the last years; the packaged towers have the same, so that graphs can be joined.
_OPSET = 17
_IR_VERSION = 8
_OUTPUT = "adapted"
_LARGEST = 2**31  # bytes of one protobuf message


def to_onnx(space: FittedSpace, path: str | os.PathLike[str], source: str = "embeddings") -> None:
    """See :meth:`isomix.spaces.Space.to_onnx`."""
    onnx, target = require("onnx", "onnx", "to_onnx"), check_target(path, overwrite=True)
    _write(onnx, _head(onnx, [space.affine_map(source)], source), target, _metadata(space))


def export_image_encoder(model: Any, space: FittedSpace, path: str | os.PathLike[str]) -> None:
    """Write a whole image encoder that returns adapted vectors as one ONNX file.

    Parameters
    ----------
    model : transformers CLIP, open_clip model or isomix Encoder
        With the space's own projectors, not folded: the map is part of the graph. It is left as it is.
        A head with a bias or one that is not linear needs an Encoder, and a SigLIP 2 of any aspect ratio will not do.
    space : isomix.spaces.Space
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
    onnx, target = require("onnx", "onnx", "export_image_encoder"), check_target(path, overwrite=True)
    if space.modality != "image":
        raise InputError("space: it was made for text embeddings. An image encoder needs one with modality='image'.")
    if space.method == "pre-projection":
        raise InputError("space: pre-projection features need no space. Export the image tower without its projector.")
    if is_made_from_projectors(space):
        _check_projectors(space, model)
    about = _metadata(space)
    if isinstance(model, Encoder):
        about |= {"isomix.model": model.fingerprint, "isomix.preprocessing": json.dumps(model.preprocessing)}
        if isinstance(model, EmbeddedEncoder):
            _write(onnx, _joined(onnx, model, space), target, about)
            return
    _write(onnx, _traced(model, space), target, about)


def _check_projectors(space: ProjectorSpace, model: Any) -> None:
    """Refuse another model's projectors; a head that is not linear may be linearised elsewhere than in the encoder."""
    pair = space.projectors
    if pair.image is None:
        require_text(model, pair)
    elif not (isinstance(model, Encoder) and model.image_head is not None and pair.linearised_at):
        require_plain(model, space)
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
    for number, stage in enumerate(stages):
        inputs = [value, f"isomix_weight_{number}"]
        constants.append(numpy_helper.from_array(np.asarray(stage.weight, np.float32), inputs[1]))
        if stage.bias is not None:
            inputs.append(f"isomix_bias_{number}")
            constants.append(numpy_helper.from_array(np.asarray(stage.bias, np.float32), inputs[2]))
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


def _joined(onnx: Any, encoder: EmbeddedEncoder, space: FittedSpace) -> Any:
    """The encoder's own image tower, its projector and the space in one graph."""
    projector = AffineMap(np.asarray(encoder.projectors.side("image").weight, np.float64))
    mapped = space.affine_map()
    check_width(mapped.weight.shape[1], encoder.embedding_dim)
    tower = onnx.load_model_from_string(encoder.image_graph())
    head = _head(onnx, [projector, mapped], "features")
    return onnx.compose.merge_models(tower, head, io_map=[("features", "features")])


def _traced(model: Any, space: FittedSpace) -> Any:
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


def _metadata(space: FittedSpace) -> dict[str, str]:
    from isomix import __version__

    return {"isomix.version": __version__, "isomix.method": space.method, "isomix.space": space.fingerprint}


def _write(onnx: Any, model: Any, target: Path, about: dict[str, str]) -> None:
    model.producer_name, model.producer_version = "isomix", about["isomix.version"]
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    with writing(target) as temporary:
        onnx.save_model(model, temporary)
