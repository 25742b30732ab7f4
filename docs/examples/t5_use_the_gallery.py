"""
Use the gallery: smoothing
==========================

For people whose collection has several pictures of each thing, and who look for a kind of thing and not for one picture.
No labels are needed; here they only measure.
"""

from pathlib import Path

import numpy as np

import isomix

folder = Path(isomix.__file__).parent / "demo" / "pictures" / "icons"
paths = sorted(folder.glob("*/*.png"))
labels = np.array([path.parent.name for path in paths])
E = isomix.load_encoder("embedded").encode_image(paths).embeddings

# %%
# Pictures that lend each other what they share
# ---------------------------------------------
#
# Each row of the gallery becomes the mean of itself and its nearest rows. How much is decided by the gallery: ``mass_`` says how
# many neighbours' worth of kin a picture has, and is zero where every picture is alone.

smoothing = isomix.Smoothing().fit(E)
print(f"cohesive mass {smoothing.mass_:.2f}, joint weight of the neighbours {smoothing.strength_:.2f}")

# %%
# Search the smoothed gallery. Queries go through ``transform``, which averages them with what they find first. For one query little may
# change, as here; below are the figures over all of them.

query = paths.index(folder / "camera" / "ion.png")
rest = np.arange(len(paths)) != query
without = isomix.Smoothing().fit(E[rest])
plain_rows = isomix.search(E[[query]], E[rest], k=8)[1][0]
smoothed_rows = isomix.search(without.transform(E[[query]]), without.gallery_, k=8)[1][0]
others = [path for path, keep in zip(paths, rest, strict=True) if keep]
isomix.show(
    {
        "plain": [(others[row], others[row].parent.name) for row in plain_rows],
        "smoothed": [(others[row], others[row].parent.name) for row in smoothed_rows],
    }
)

# %%
# What it gives here
# ------------------
#
# Judged without a leak: a picture that is a query takes no part in smoothing the gallery it searches.

plain = isomix.retrieval_metrics(E, labels)
smoothed = isomix.retrieval_metrics(E, labels, smoothing=isomix.Smoothing())
expanded = isomix.retrieval_metrics(E, labels, smoothing=isomix.Smoothing(), expand=True)
for name, metrics in (("plain", plain), ("smoothed", smoothed), ("and expanded", expanded)):
    print(f"{name:13} mAP {100 * metrics['mean_average_precision']:.1f} %")

# %%
# How much is too much?
# ---------------------

from matplotlib import pyplot as plt

one_each = [int(np.flatnonzero(labels == label)[0]) for label in sorted(set(labels))]
strengths = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0]
kind = [
    100 * isomix.retrieval_metrics(E, labels, smoothing=isomix.Smoothing(strength=s))["mean_average_precision"]
    for s in strengths
]
plt.figure(figsize=(7, 3.5))
plt.plot(strengths, kind, marker="o", label="strength given")
plt.plot(smoothing.strength_, 100 * smoothed["mean_average_precision"], "r*", ms=14, label="chosen without labels")
plt.xlabel("joint weight of the neighbours")
plt.ylabel("mAP, %")
plt.legend()
plt.tight_layout()

# %%
# When not
# --------
#
# Where a query looks for the very same picture or object, smoothing blurs what it looks for: say ``strength=0``.
# A gallery with one picture of each thing is left nearly alone, because its mass is near zero:

alone = isomix.Smoothing().fit(E[one_each])
print(f"one picture a class: cohesive mass {alone.mass_:.2f}")

# %%
# Figures on real photographs, and where smoothing costs something: :doc:`/gallery`. In a table it is
# ``isomix adapt photos.lance --smooth``.
