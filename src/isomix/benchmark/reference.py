"""Published figures to hold one's own against; facts, with their sources, in ``reference.json``."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import cache
from importlib.resources import files
from typing import Any

from isomix.projectors.model_spec import parse_spec

__all__ = ["backbone_name", "reference", "reference_mean", "sources"]


@cache
def _published() -> dict[str, Any]:
    return json.loads((files("isomix.benchmark") / "reference.json").read_text(encoding="utf-8"))


def backbone_name(spec: str | None) -> str | None:
    """The papers' name of a backbone, or None for one that they do not have.

    Examples
    --------
    >>> backbone_name("hf:openai/clip-vit-base-patch32")
    'ViT-B/32'
    """
    key = parse_spec(spec).backbone if spec else ""
    for name, known in _published()["backbones"].items():
        if key in (spelling.casefold() for spelling in known):
            return str(name)
    return None


def reference(
    task: str, backbone: str | None, method: str, dataset: str, *, shots: int | None = None, tier: str | None = None
) -> float | None:
    """A published figure in percent, or None where nobody published one for exactly this.

    Parameters
    ----------
    task : {"image_retrieval", "text_retrieval", "ncm", "fewshot", "zeroshot"}
        mAP for retrieval (that of Easy for revisited Oxford and Paris), else accuracy.
    backbone : str or None
        Spec of a model, as ``load_encoder`` takes it.
    method, dataset : str
        Names as in the registries.
    shots : int, optional
    tier : str, optional
        Published few-shot figures are of tier ``"validation"``, and compare with no other.

    Examples
    --------
    >>> reference("image_retrieval", "hf:openai/clip-vit-base-patch32", "isoclip", "caltech101")
    80.8
    >>> reference("fewshot", "openclip:RN50/openai", "gda", "dtd", shots=4, tier="leave-one-out") is None
    True
    """
    name = backbone_name(backbone)
    section = {"image_retrieval": "retrieval", "zeroshot": "zeroshot", "fewshot": "fewshot"}.get(task)
    if name is None or section is None or (task == "fewshot" and tier != _published()["fewshot"]["tier"]):
        return None
    for row in _published()[section]["rows"]:
        if (row["method"], row["backbone"]) == (method, name):
            found = row["values"].get(dataset)
            return found.get(str(shots)) if isinstance(found, dict) else found
    return None


def reference_mean(
    task: str,
    backbone: str | None,
    method: str,
    datasets: Collection[str],
    *,
    shots: int | None = None,
    tier: str | None = None,
) -> float | None:
    """A published mean in percent over exactly these data sets, or None.

    Examples
    --------
    >>> reference_mean("text_retrieval", "openclip:ViT-B-32/openai", "isoclip", ["coco", "flickr30k", "nocaps"])
    41.9
    """
    name, published = backbone_name(backbone), _published()
    if name is None or (task == "fewshot" and tier != published["fewshot"]["tier"]):
        return None
    for row in published["means"]["rows"]:
        same = (row["task"], row["method"], row["backbone"]) == (task, method, name)
        if same and set(published["means"]["sets"][row["sets"]]) == set(datasets):
            return row["values"].get(str(shots)) if "values" in row else row["mean"]
    return None


def sources() -> dict[str, str]:
    """Task → where its published figures come from."""
    published = _published()
    return {"image_retrieval": published["retrieval"]["source"], "fewshot": published["fewshot"]["source"]} | {
        "zeroshot": published["fewshot"]["source"]
    }
