"""The weights folder of a run: both towers as ONNX graphs in float16, two pairs of projectors, the tokenizer."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from isomix.errors import InputError, ModelError
from training.config import load_section
from training.model.augment import composite_on_white
from training.model.batches import TrainingSet
from training.model.checkpoints import save_tensors
from training.model.project import ProjectConfig
from training.model.recipe import TrainConfig
from training.model.text import TOKENIZER
from training.model.tower import (
    FIRST_SPECIAL,
    PADDING,
    PIXEL_MEAN,
    PIXEL_SCALE,
    Convolution,
    ImageTower,
    Model,
    ResidualBlock,
    TextBlock,
    TextTower,
)
from training.model.train import load_model

__all__ = ["export", "image_graph", "resizing", "text_graph", "write_weights"]

INPUT_SIDE = 64  # of the pictures that the encoder hands over
OPSET, IR_VERSION = 17, 8  # those of the graphs that isomix writes, so that they can be joined


class Graph:
    """An ONNX graph under construction; weights are stored as float16 and cast to float32, which the runtime folds."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        name = output or f"{operator.lower()}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, values: NDArray[Any]) -> str:
        """A small constant in its own type."""
        self.weights.append(numpy_helper.from_array(np.asarray(values), f"constant.{len(self.weights)}"))
        return self.weights[-1].name

    def weight(self, tensor: Tensor) -> str:
        """A weight, rounded to float16.

        Raises
        ------
        ModelError
            It does not fit.
        """
        values = tensor.detach().contiguous().numpy()
        largest = float(np.abs(values).max())
        if not largest <= float(np.finfo(np.float16).max):
            raise ModelError(f"a weight of magnitude {largest:g} does not fit into float16.")
        return self.add("Cast", self.constant(values.astype(np.float16)), to=TensorProto.FLOAT)

    def convolution(self, layer: Convolution, inputs: str) -> str:
        """Convolution and batch norm as one node."""
        fused = fuse_conv_bn_eval(layer.conv, layer.norm)
        bias = torch.zeros(fused.out_channels) if fused.bias is None else fused.bias
        weights = self.weight(fused.weight), self.weight(bias)
        side, stride = fused.kernel_size[0], fused.stride[0]
        return self.add("Conv", inputs, *weights, kernel_shape=[side] * 2, strides=[stride] * 2, pads=[side // 2] * 4)

    def norm(self, layer: nn.LayerNorm, inputs: str, output: str = "") -> str:
        """Layer norm over the last axis."""
        weights = self.weight(layer.weight), self.weight(layer.bias)
        return self.add("LayerNormalization", inputs, *weights, output=output, axis=-1, epsilon=layer.eps)

    def linear(self, layer: nn.Linear, inputs: str) -> str:
        """X Wᵀ + b."""
        return self.add("Gemm", inputs, self.weight(layer.weight), self.weight(layer.bias), transB=1)

    def model(self, name: str, kind: int, shape: list[int | str], width: int) -> onnx.ModelProto:
        """The finished model: one input of the given kind and shape, the output ``features`` (n, width)."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(name, kind, shape)],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return model


def image_graph(tower: ImageTower, side: int = INPUT_SIDE) -> onnx.ModelProto:
    """``pixels`` (n, 3, 64, 64), RGB in [0, 1] → ``features`` (n, d_image), of the pictures at ``side`` pixels."""
    graph = Graph()
    mean, scale = (graph.constant(np.array(value, np.float32)) for value in (PIXEL_MEAN, PIXEL_SCALE))
    maps = "pixels"
    if side != INPUT_SIDE:  # antialiased bilinear resizing is a matrix from the left and one from the right
        resize = resizing(INPUT_SIDE, side).numpy()
        maps = graph.add("MatMul", graph.constant(resize), maps)
        maps = graph.add("MatMul", maps, graph.constant(np.ascontiguousarray(resize.T)))
    maps = graph.add("Div", graph.add("Sub", maps, mean), scale)
    for convolution in tower.stem:
        maps = graph.add("Relu", graph.convolution(cast(Convolution, convolution), maps))
    for block in tower.blocks:
        maps = _block(graph, cast(ResidualBlock, block), maps)
    pooled = graph.add("Flatten", graph.add("GlobalAveragePool", maps))
    graph.norm(tower.norm, pooled, "features")
    return graph.model("pixels", TensorProto.FLOAT, ["n", 3, INPUT_SIDE, INPUT_SIDE], tower.norm.normalized_shape[0])


def resizing(old: int, new: int) -> Tensor:
    """The matrix (new, old) of antialiased bilinear resizing along one axis."""
    rows = torch.eye(old)[None, None]
    options = {"mode": "bilinear", "antialias": True, "align_corners": False}
    return nn.functional.interpolate(rows, size=(new, old), **options)[0, 0]  # type: ignore[arg-type]


def _block(graph: Graph, block: ResidualBlock, maps: str) -> str:
    inner = graph.add("Relu", graph.convolution(block.first, maps))
    inner = graph.convolution(block.second, inner)
    if block.stride > 1:
        maps = graph.add("AveragePool", maps, kernel_shape=[block.stride] * 2, strides=[block.stride] * 2)
    if block.shortcut is not None:
        maps = graph.convolution(block.shortcut, maps)
    return graph.add("Relu", graph.add("Add", inner, maps))


def text_graph(tower: TextTower) -> onnx.ModelProto:
    """``tokens`` (n, 16) int64 → ``features`` (n, d_text)."""
    graph = Graph()
    special, padding = (graph.constant(np.array(value, np.int64)) for value in (FIRST_SPECIAL, PADDING))
    is_word = graph.add("And", graph.add("Less", "tokens", special), graph.add("Greater", "tokens", padding))
    words = graph.add("Cast", is_word, to=TensorProto.FLOAT)
    last, one = graph.constant(np.array([-1], np.int64)), graph.constant(np.array(1, np.float32))
    row = graph.add("Unsqueeze", words, graph.constant(np.array([1], np.int64)))
    total = graph.add("MatMul", row, graph.add("Gather", graph.weight(tower.embedding.weight), "tokens"))
    total = graph.add("Squeeze", total, graph.constant(np.array([1], np.int64)))
    count = graph.add("Max", graph.add("ReduceSum", words, last, keepdims=1), one)
    mean = graph.add("Div", total, count)
    features = graph.add("Mul", mean, graph.constant(np.array(tower.scale, np.float32)))
    for module in tower.blocks:
        block = cast(TextBlock, module)
        hidden = graph.linear(block.first, graph.norm(block.norm, features))
        features = graph.add("Add", features, graph.linear(block.second, _gelu(graph, hidden)))
    graph.norm(tower.norm, features, "features")
    return graph.model("tokens", TensorProto.INT64, ["n", 16], tower.norm.normalized_shape[0])


def _gelu(graph: Graph, values: str) -> str:
    root, one, half = (graph.constant(np.array(value, np.float32)) for value in (2**0.5, 1, 0.5))
    curve = graph.add("Add", graph.add("Erf", graph.add("Div", values, root)), one)
    return graph.add("Mul", graph.add("Mul", values, curve), half)


def write_weights(model: Model, converged: dict[str, Tensor], folder: Path, side: int = INPUT_SIDE) -> None:
    """Write what :class:`isomix.encoders.embedded.EmbeddedEncoder` loads; the same model gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    model = model.eval()
    for name, graph in (("image", image_graph(model.image, side)), ("text", text_graph(model.text))):
        (folder / f"{name}.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    trained = {
        "image_projector": model.image_projector.weight,
        "text_projector": model.text_projector.weight,
        "logit_scale": model.inverse_temperature().reshape(1),
    }
    for name, tensors in (("as-trained", trained), ("converged", converged)):
        save_tensors(folder / f"{name}.safetensors", tensors, {"orientation": "out x in"})
    shutil.copyfile(TOKENIZER, folder / "tokenizer.json")


def export(config_path: Path, output: Path, *, name: str) -> None:
    """Write ``weights`` into the folder of a run, and measure what float16 changed on development pictures.

    Raises
    ------
    InputError
        Training or the stage ``project`` has not finished.
    """
    from safetensors.torch import load_file

    folder = output / "runs" / name
    model = load_model(folder, load_section(TrainConfig, "train", config_path))
    if not (folder / "converged.safetensors").is_file():
        raise InputError(f"{folder} holds no converged.safetensors. First: python -m training project --name {name}")
    side = load_section(ProjectConfig, "project", config_path).side
    write_weights(model, load_file(folder / "converged.safetensors"), folder / "weights", side)
    data = TrainingSet.load(output / "dataset", output / "levels")
    pixels = composite_on_white(torch.from_numpy(data.level(INPUT_SIDE)[data.development]))
    resize = resizing(INPUT_SIDE, side)
    tokens = torch.from_numpy(data.captions.tokens[data.captions.labels(data.development)].astype(np.int64))
    for part, inputs, own in (("image", pixels, resize @ pixels @ resize.T), ("text", tokens, tokens)):
        difference = largest_difference(folder / "weights" / f"{part}.onnx", inputs, getattr(model, part), own)
        sys.stderr.write(f"{part}.onnx: largest cosine difference to float32 weights {difference:.1e}\n")
    size = sum(path.stat().st_size for path in (folder / "weights").iterdir())
    sys.stderr.write(f"{folder / 'weights'}: {size / 1e6:.1f} MB\n")


def largest_difference(path: Path, inputs: Tensor, tower: nn.Module, own_inputs: Tensor) -> float:
    """Largest 1 - cosine between the features of a graph and of the tower it was made from, each with its own inputs."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    made = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})[0]
    with torch.inference_mode():
        own = tower(own_inputs)
    return float(1 - nn.functional.cosine_similarity(torch.from_numpy(made).double(), own.double()).min())
