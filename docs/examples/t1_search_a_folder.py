"""
Search a folder of pictures
===========================

For people who have photos on a disk and want to find the ones that are like another, or like a sentence.
Ten minutes; no experience with CLIP is needed.

.. code-block:: text

   pip install 'isomix[app]'

The folder here is the one that comes with isomix: 370 icons. Put your own in its place, and
``"hf:openai/clip-vit-base-patch32"`` in place of ``"embedded"``, the small model that knows icons and nothing else.
"""

import tempfile
from pathlib import Path

import isomix
from isomix.store import EmbeddingTable, embed
from isomix.store.search import TableSearch

folder = Path(isomix.__file__).parent / "demo" / "pictures" / "icons"
encoder = isomix.load_encoder("embedded")

# %%
# Encode once
# -----------
#
# Every picture becomes a list of 192 numbers, its *embedding*. They are kept in a table, and a second run encodes only what is
# new. On the command line this is ``isomix embed photos/ -o photos.lance``.

table_path = Path(tempfile.mkdtemp()) / "icons.lance"
report = embed(folder, table_path, encoder, labels="folders")
print(f"{report.added} pictures encoded, {report.failed} could not be read")

# %%
# Search with a picture
# ---------------------
#
# ``TableSearch`` is what ``isomix search photos.lance cat.jpg`` calls. A query is the path of a picture, or a sentence.

search = TableSearch(EmbeddingTable.open(table_path))
queries, _ = search.read([str(folder / "camera" / "ion.png"), "a house"])
answers = search.search(queries, k=8)
isomix.show(answers)

# %%
# Every answer says in which space it was found, and why. Pictures are compared with pictures in one space, and with sentences
# always in the plain one.

for answer in answers:
    print(Path(answer.query.name).name, "->", answer.space, "|", answer.note)

# %%
# The same as a picture
# ---------------------
#
# ``isomix search photos.lance cat.jpg --contact-sheet hits.png`` writes such a sheet.

from matplotlib import pyplot as plt

plt.figure(figsize=(10, 4))
plt.imshow(isomix.show(answers).sheet())
plt.axis("off")
plt.tight_layout()

# %%
# Where to go from here
# ---------------------
#
# * ``isomix adapt photos.lance --smooth`` makes such searches better: :doc:`/tutorials/t5_use_the_gallery` explains how.
# * ``isomix serve photos.lance`` shows the table in the browser: :doc:`/studio`.
# * :doc:`/reference/command-line` has every option.
