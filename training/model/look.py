"""A quick look at a model during training: cross-style retrieval and text to image on the development concepts."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from isomix.metrics import average_precisions
from training.model.augment import composite_on_white
from training.model.batches import TrainingSet
from training.model.tower import Model, normalized

__all__ = ["cross_style_map", "encode_pictures", "look"]


def encode_pictures(model: Model, pixels: torch.Tensor, *, half: bool, batch_size: int = 256) -> torch.Tensor:
    """Pre-projection features, shape (n, d_image), of pixels (n, 3, side, side); ``model`` must be in eval mode."""
    batches = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        for part in torch.split(pixels, batch_size):
            batches.append(model.image(part.contiguous(memory_format=torch.channels_last)).float())
    return torch.cat(batches)


def cross_style_map(embeddings: NDArray[np.float32], concept: NDArray[np.int64], source: NDArray[np.int64]) -> float:
    """Mean average precision, in percent, of each picture against those of the other sources.

    Pictures of the query's own source are not in its gallery; queries without a relevant picture are left out.
    For some hundred rows: it holds the whole matrix of cosines.
    """
    cosines = embeddings @ embeddings.T
    cosines[source[:, None] == source] = -np.inf
    return 100 * float(np.nanmean(average_precisions(cosines, concept[:, None] == concept)))


def look(model: Model, data: TrainingSet, side: int, *, half: bool) -> dict[str, float]:
    """Mean average precisions in percent: across styles, projected and not; and of each label over all pictures."""
    rows = data.development
    if not len(rows):
        return {}
    model.eval()
    pixels = composite_on_white(torch.from_numpy(data.level(side)[rows]))
    features = encode_pictures(model, pixels, half=half)
    concept, source = data.concept[rows], data.source[rows]
    _, first = np.unique(concept, return_index=True)
    tokens = torch.from_numpy(data.captions.tokens[data.captions.labels(rows[first])].astype(np.int64))
    with torch.inference_mode():
        images = normalized(model.image_projector(features))
        texts = normalized(model.text_projector(model.text(tokens)))
        scores = (texts @ images.T).numpy()
    return {
        "map": cross_style_map(images.numpy(), concept, source),
        "feature_map": cross_style_map(normalized(features).numpy(), concept, source),
        "text_map": 100 * float(average_precisions(scores, concept[first, None] == concept).mean()),
    }
