"""
Choose a band with your own labels
==================================

For people whose model has no preset band, or who have some labelled pictures and want to use them.
Read :doc:`/explanation/the-spectrum-and-the-band` first if you do not know what a band is.
"""

from pathlib import Path

import isomix
from isomix.spaces import preset_band

folder = Path(isomix.__file__).parent / "demo" / "pictures" / "icons"
paths = sorted(folder.glob("*/*.png"))
labels = [path.parent.name for path in paths]
E = isomix.load_encoder("embedded").encode_image(paths).embeddings
projectors = isomix.Projectors.from_pretrained("embedded")

# %%
# Three ways to say which band
# ----------------------------
#
# The preset of the model, a pair of numbers (how many directions are cut at the top and at the bottom), or ``"auto"``.

print("preset:", preset_band("embedded"))
given = isomix.IsoCLIP(projectors, band=(4, 24)).fit()
print("given: ", given.band_, "->", given.n_components_, "numbers")

# %%
# Let the labels decide
# ---------------------
#
# ``fit(E, labels)`` scores a grid of bands by mean average precision. A band wins only if it is better by more than its
# standard error, so that luck on a few pictures is not taken for a rule. ``band_evidence_`` says what was decided, and why.

chosen = isomix.IsoCLIP(projectors, band="auto").fit(E, labels)
print(chosen.band_, "from", chosen.band_source_)
print(chosen.band_evidence_["why"])

# %%
# See the grid
# ------------
#
# The whole landscape is worth a look: a flat one means that there is little to gain.

from matplotlib import pyplot as plt

tops, bottoms = (0, 2, 4, 8, 16, 32), (0, 12, 24, 48, 72, 96)
gains = []
plain = isomix.retrieval_metrics(E, labels)["mean_average_precision"]
for top in tops:
    spaces = [isomix.IsoCLIP(projectors, band=(top, bottom)).fit() for bottom in bottoms]
    measured = [isomix.retrieval_metrics(space.transform(E), labels)["mean_average_precision"] for space in spaces]
    gains.append([100 * (value - plain) for value in measured])

plt.figure(figsize=(7, 4))
plt.imshow(gains, cmap="RdBu", vmin=-8, vmax=8)
plt.xticks(range(len(bottoms)), bottoms)
plt.yticks(range(len(tops)), tops)
for row, line in enumerate(gains):
    for column, value in enumerate(line):
        plt.text(column, row, f"{value:+.1f}", ha="center", va="center")
plt.xlabel("directions cut at the bottom")
plt.ylabel("cut at the top")
plt.colorbar(label="gain of mAP over plain, points")
plt.tight_layout()

# %%
# Here nothing is to be gained, and the automatic choice keeps everything. Beware of choosing the best cell of such a grid on the
# pictures that you then report: it is the best of 36 partly by luck. Choose on one half of the classes, report the other.
#
# Without labels, sentences can stand in for them, and embeddings alone can confirm or refuse what the spectrum suggests:
# :doc:`/bands` has the rules and how well they did.
