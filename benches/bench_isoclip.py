"""What IsoCLIP costs: time of ``fit``, latency of a folded image encoder, and of modality inversion, at true sizes.

Run: ``python benches/bench_isoclip.py [--quick] [--json] [--rounds 60] [--threads 2]``. Weights are random: time does
not depend on them. One picture a call. In every round the plain encoder, the folded one and the plain one once more run
in another order; a ratio is the median of the rounds' ratios, and "control", the plain encoder against itself, says how
much of it is noise. The target of folded / plain is at most 1.02. A backbone gets at most ``--seconds`` for its rounds.
SigLIP 2 has no image projector to fold into: its row has its own embedding against the map of the space behind its
pre-projection features, which leaves out the MLP of its head.
"""

from __future__ import annotations

import argparse
import copy
import gc
import itertools
import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, SiglipConfig, SiglipModel

from isomix import IsoCLIP, Projectors
from isomix.encoders.hf_families import FAMILIES, siglip_head
from isomix.inversion import TextualInversion

B, L = (
    {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
)
TEXT_B = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}
TEXT_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
BACKBONES = {  # name → vision tower, text tower, d, name of its published band
    "ViT-B/32": (B | {"patch_size": 32}, TEXT_B, 512, "openai/clip-vit-base-patch32"),
    "ViT-B/16": (B | {"patch_size": 16}, TEXT_B, 512, "openai/clip-vit-base-patch16"),
    "ViT-L/14": (L | {"patch_size": 14}, TEXT_L, 768, "openai/clip-vit-large-patch14"),
}
SIGLIP_TEXT = {"bos_token_id": 1, "eos_token_id": 2}  # the defaults lie outside its own vocabulary
SIGLIP2 = ("SigLIP2-B/16", B | {"patch_size": 16}, "google/siglip2-base-patch16-224")
Row = dict[str, Any]
PROMPT = {"a photo of": [49406, 320, 1125, 539, 49407], "": [49406, 49407]}  # OpenAI's vocabulary


def make_model(vision: dict[str, int], text: dict[str, int], d: int) -> Any:
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=CLIPTextConfig(**text, eos_token_id=49407).to_dict(),
        vision_config=CLIPVisionConfig(**vision, image_size=224).to_dict(),
        projection_dim=d,
    )
    return CLIPModel(config).eval()


def in_turn(rounds: int, limit: float, *calls: Callable[[], object]) -> np.ndarray:
    """Seconds of each call (columns) in each round; their order runs through all permutations.

    It ends early, after a whole number of permutations, when ``limit`` seconds are over.
    """
    for call in calls:
        call()
    orders = list(itertools.permutations(range(len(calls))))
    times = np.empty((rounds, len(calls)))
    began = time.perf_counter()
    for number in range(rounds):
        if number and number % len(orders) == 0 and time.perf_counter() - began > limit:
            return times[:number]
        for index in orders[number % len(orders)]:
            start = time.perf_counter()
            calls[index]()
            times[number, index] = time.perf_counter() - start
    return times


def against_plain(options: argparse.Namespace, plain: Callable[[], object], other: Callable[[], object]) -> Row:
    """Latencies, the median of the ratios of each round, and that of the plain encoder against itself."""
    times = in_turn(options.rounds, options.seconds, plain, other, plain)
    ratios = np.median(times[:, 1:] / times[:, :1], axis=0)
    plain_ms, folded_ms, _ = 1000 * np.median(times, axis=0)
    return {
        "rounds": len(times),
        "plain_ms": float(plain_ms),
        "folded_ms": float(folded_ms),
        "folded_to_plain": float(ratios[0]),
        "control": float(ratios[1]),
    }


def fit_row(name: str, projectors: Projectors, band: str) -> tuple[Row, IsoCLIP]:
    iso = IsoCLIP(projectors, band=band)
    fit = float(np.median(in_turn(5, 60.0, iso.fit)))
    k_top, k_bottom = iso.band_
    row = {"backbone": name, "band": f"{k_top} / {k_bottom}", "fit_ms": 1000 * fit, "rank": iso.rank_}
    return row | {"width": f"{projectors.embedding_dim} -> {iso.n_components_}"}, iso


def clip_row(name: str, model: Any, band: str, options: argparse.Namespace) -> Row:
    row, iso = fit_row(name, FAMILIES["clip"].projectors(model, name), band)
    folded = copy.copy(model)  # the same towers, another projector
    folded._modules = model._modules | {"visual_projection": copy.deepcopy(model.visual_projection)}
    iso.fold_into(folded)
    pixels = picture()
    encode, encode_folded = (lambda each=each: image_embedding(each, pixels) for each in (model, folded))
    Z = iso.transform(torch.cat([encode(), image_embedding(model, -pixels)]).numpy())
    F = torch.nn.functional.normalize(torch.cat([encode_folded(), image_embedding(folded, -pixels)])).numpy()
    difference = float(np.abs(Z @ Z.T - F @ F.T).max())  # the compact vectors have other coordinates, the same cosines
    row |= against_plain(options, encode, encode_folded) | {"difference_of_cosine": difference}
    return row | inversion(model, iso, encode, options)


def inversion(model: Any, iso: IsoCLIP, encode: Callable[[], torch.Tensor], options: argparse.Namespace) -> Row:
    """One query by IsoCLIP (a pass of the image tower) against one by OTI (that, and 150 steps of the text tower)."""
    steps = {"n_steps": 2} if options.quick else {}
    textual = TextualInversion(model, lambda sentence: {"input_ids": PROMPT[sentence]}, **steps)
    times = in_turn(
        4,
        options.seconds / 2,
        lambda: iso.transform(encode().numpy()),
        lambda: textual.transform(encode().numpy(), show_progress_bar=False),
    )
    fast, slow = 1000 * np.median(times, axis=0)
    ratio = float(np.median(times[:, 1] / times[:, 0]))
    return {"isoclip_ms": float(fast), "oti_ms": float(slow), "oti_to_isoclip": ratio}


def picture() -> torch.Tensor:
    return torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def image_embedding(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)


def siglip2_row(options: argparse.Namespace) -> Row:
    name, vision, band = SIGLIP2
    torch.manual_seed(0)
    model = SiglipModel(
        SiglipConfig(vision_config=shrunk(vision, options) | {"image_size": 224}, text_config=SIGLIP_TEXT)
    ).eval()
    family = FAMILIES["siglip"]
    row, iso = fit_row(name, family.projectors(model, name), band)
    head, whole, pixels = iso.to_torch("features"), copy.deepcopy(model), picture()
    siglip_head(model)  # from here on it gives pre-projection features

    def own() -> object:
        with torch.inference_mode():
            return family.image_features(whole, pixels)

    def adapted() -> object:
        with torch.inference_mode():
            return head(family.image_features(model, pixels))

    return row | against_plain(options, own, adapted)


def shrunk(tower: dict[str, int], options: argparse.Namespace) -> dict[str, int]:
    return tower | ({"num_hidden_layers": 1} if options.quick else {})


def table(rows: list[Row], columns: dict[str, str]) -> str:
    """Markdown; ``columns`` maps keys to headings."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return f"{value:.0f}" if value >= 100 else f"{value:.3f}" if value >= 0.1 else f"{value:.1g}"
        return "-" if value is None else str(value)

    lines = [list(columns.values()), ["---"] * len(columns)]
    lines += [[cell(row.get(key)) for key in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=45.0, help="for the rounds of one backbone")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--backbones", nargs="*", choices=[*BACKBONES, SIGLIP2[0]], default=[*BACKBONES, SIGLIP2[0]])
    parser.add_argument("--quick", action="store_true", help="one layer, few rounds: does it run?")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.rounds = 6 if options.quick else options.rounds
    warnings.simplefilter("error")
    torch.set_num_threads(options.threads)
    gc.disable()  # a collection would fall on one call of a round
    rows = []
    for name in options.backbones:
        gc.collect()
        if name == SIGLIP2[0]:
            rows.append(siglip2_row(options))
            continue
        vision, text, d, band = BACKBONES[name]
        rows.append(clip_row(name, make_model(shrunk(vision, options), shrunk(text, options), d), band, options))
    if options.json:
        print(json.dumps({"threads": options.threads, "quick": options.quick, "rows": rows}))
        return
    headings = {"backbone": "backbone", "band": "band", "rank": "rank", "width": "width", "fit_ms": "fit, ms"}
    headings |= {"plain_ms": "plain, ms", "folded_ms": "folded, ms", "folded_to_plain": "folded / plain"}
    headings |= {"control": "control", "rounds": "rounds", "difference_of_cosine": "largest difference of cosine"}
    headings |= {"isoclip_ms": "IsoCLIP query, ms", "oti_ms": "OTI query, ms", "oti_to_isoclip": "OTI / IsoCLIP"}
    print(table(rows, headings))


if __name__ == "__main__":
    main()
