"""
Adapt vectors that you have stored
==================================

For people who have CLIP vectors in files or in a database and do not want to encode a million pictures again.
You need to know which model made the vectors, and nothing about linear algebra.

.. code-block:: text

   pip install isomix

A CLIP model ends in two matrices, its *projectors*, one for pictures and one for text. They are all of the model that is needed.
"""

import tempfile
from pathlib import Path

import numpy as np

import isomix
from isomix.store import adapt

# %%
# What you have
# -------------
#
# Here: the vectors of 370 icons, made on the spot. With yours, this part is ``numpy.load``.

folder = Path(isomix.__file__).parent / "demo" / "pictures" / "icons"
paths = sorted(folder.glob("*/*.png"))
labels = [path.parent.name for path in paths]
stored = isomix.load_encoder("embedded").encode_image(paths).embeddings.astype(np.float16)
print(stored.shape, stored.dtype)

# %%
# Fit the space
# -------------
#
# ``from_pretrained`` reads the two matrices and not the model: for OpenAI's ViT-B/32 that is
# ``isomix.Projectors.from_pretrained("hf:openai/clip-vit-base-patch32")``.

projectors = isomix.Projectors.from_pretrained("embedded")
space = isomix.IsoCLIP(projectors).fit()
described = space.describe()
print(described["method"], described["band"], "of", described["source"]["model"])

# %%
# Map the vectors
# ---------------

adapted = space.transform(stored)
print(adapted.shape)
for name, vectors in (("plain", stored), ("adapted", adapted)):
    print(f"{name:8} mAP {100 * isomix.retrieval_metrics(vectors, labels)['mean_average_precision']:.1f} %")

# %%
# On this small model nothing is gained but shorter vectors, and that is what is printed. OpenAI's ViT-B/32 gains 3.9 points
# (:doc:`/bands`). Whether yours will is a question of its own: :doc:`/explanation/when-it-does-not-help`.
#
# Files of any size
# -----------------
#
# ``adapt`` reads and writes block by block, so memory does not depend on the number of rows. The ending names the layout;
# ids and columns of parquet come along. On the command line:
# ``isomix adapt vectors.npy --model hf:openai/clip-vit-base-patch32 -o better.npy``.

work = Path(tempfile.mkdtemp())
np.save(work / "vectors.npy", stored)
report = adapt(work / "vectors.npy", work / "better.npy", space)
print(report.rows, "rows,", report.width_before, "->", report.width, "numbers")

# %%
# Queries must go through the same space. One file keeps it:

space.save(work / "space.safetensors")
again = isomix.load_space(work / "space.safetensors")
scores, rows = isomix.search(again.transform(stored[:1]), np.load(work / "better.npy"), k=5)
print([labels[row] for row in rows[0]])

# %%
# What was cut
# ------------
#
# Each direction has a singular value; the space leaves out those at the end of the curve.
# :doc:`/explanation/the-spectrum-and-the-band` says why.

from matplotlib import pyplot as plt

plt.figure(figsize=(7, 3.5))
plt.semilogy(space.singular_values_)
plt.axvspan(space.band_.k_top, space.rank_ - space.band_.k_bottom, alpha=0.1, label="kept")
plt.xlabel("singular direction")
plt.ylabel("singular value")
plt.legend()
plt.tight_layout()
