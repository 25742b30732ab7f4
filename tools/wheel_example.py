"""What the base install must be able to do; run by ``make test-wheel`` where nothing but the wheel is installed."""

from __future__ import annotations

import re
import sys
from importlib.metadata import distributions, requires, version
from pathlib import Path

import numpy as np

import isomix


def check(right: bool, what: str) -> None:
    """Stop where something is not as it should be."""
    if not right:
        sys.exit(f"test-wheel: {what}")


def name(requirement: str) -> str:
    """Of a package, from what a requirement says of it."""
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def main() -> None:
    """Import, adapt an array, fit a classifier, write and read both."""
    folder = Path(sys.argv[1])
    check("site-packages" in isomix.__file__, f"isomix is not the wheel's: {isomix.__file__}")
    needed = requires("isomix") or []
    base, extras = ({name(each) for each in needed if ("extra ==" in each) is extra} for extra in (False, True))
    more = {name(each.metadata["Name"]) for each in distributions()} & extras - base - {
        "threadpoolctl"
    }  # scikit-learn's
    check(not more, f"the base install brought what belongs to an extra: {sorted(more)}")
    check((Path(isomix.__file__).parent / "py.typed").exists(), "py.typed is missing")

    rng = np.random.default_rng(0)
    projectors = isomix.Projectors(rng.normal(size=(32, 48)), rng.normal(size=(32, 40)))
    stored = projectors.project_image(rng.normal(size=(60, 48)))
    space = isomix.IsoCLIP(projectors, band=(4, 4)).fit()
    adapted = space.transform(stored)
    check(adapted.shape == (60, 24), f"adapted: {adapted.shape}")
    space.save(folder / "space.safetensors")
    again = isomix.load_space(folder / "space.safetensors").transform(stored)
    check(bool((adapted == again).all()), "a space that was saved and loaded maps otherwise")

    y = np.repeat(["cat", "dog", "owl"], 20)
    X = rng.normal(size=(3, 32)).repeat(20, axis=0) + 0.3 * rng.normal(size=(60, 32))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    texts = {label: X[y == label].mean(axis=0) + 0.5 * rng.normal(size=32) for label in set(y)}
    classifier = isomix.ProjectAndMix().fit(X[::2], y[::2], text=texts)
    accuracy = classifier.score(X[1::2], y[1::2])
    check(accuracy > 0.9, f"accuracy {accuracy:.2f}")
    check(isomix.search(adapted[:1], adapted, k=3)[1][0][0] == 0, "a row does not find itself")
    names = ("numpy", "scipy", "scikit-learn", "safetensors")
    print(
        f"Python {sys.version.split()[0]}, isomix {isomix.__version__}:", ", ".join(f"{n} {version(n)}" for n in names)
    )


if __name__ == "__main__":
    main()
