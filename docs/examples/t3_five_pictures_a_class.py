"""
Classify with a few pictures a class
====================================

For people who have some pictures of each class, the names of the classes, and no time to train.
It takes one second, and no validation set.

.. code-block:: text

   pip install 'isomix[app]'
"""

from pathlib import Path

import numpy as np

import isomix

folder = Path(isomix.__file__).parent / "demo" / "pictures" / "icons"
paths = sorted(folder.glob("*/*.png"))
labels = np.array([path.parent.name for path in paths])
encoder = isomix.load_encoder("embedded")
E = encoder.encode_image(paths).embeddings

# %%
# Shots and texts
# ---------------
#
# Two drawing styles are the *shots*: one or two pictures a class. The names of the classes are the text.

shots = np.array([path.stem in ("ion", "vaadin") for path in paths])
texts = {label: encoder.encode_text([label.replace("_", " ")]) for label in sorted(set(labels))}
print(f"{shots.sum()} shots in {len(texts)} classes; {(~shots).sum()} pictures to classify")

# %%
# Fit
# ---
#
# Every weight is chosen from the shots: each is judged by a classifier that has not seen it (*leave-one-out*).
# ``weight_tier_`` always says where the weights are from.

classifier = isomix.ProjectAndMix().fit(E[shots], labels[shots], text=texts)
print(classifier.weight_tier_, classifier.weights_)

# %%
# How good is it?
# ---------------
#
# Beside the names alone (zero-shot) and the pictures alone (the nearest class mean):

accuracy = {}
for name, method, text in (
    ("names alone", isomix.ZeroShot(), texts),
    ("pictures alone", isomix.NearestClassMean(), None),
    ("both, mixed", isomix.MixedPrototypes(), texts),
    ("Project and Mix", isomix.ProjectAndMix(), texts),
):
    fitted = method.fit(E[shots], labels[shots], text=text)
    accuracy[name] = fitted.score(E[~shots], labels[~shots])
    print(f"{name:16} {100 * accuracy[name]:.1f} %")

# %%

from matplotlib import pyplot as plt

plt.figure(figsize=(7, 2.6))
plt.barh(list(accuracy), [100 * value for value in accuracy.values()], color="#0072b2")
plt.gca().invert_yaxis()
plt.xlim(60, 100)
plt.xlabel("accuracy, %")
plt.tight_layout()

# %%
# Probabilities, and saying "I do not know"
# -----------------------------------------
#
# Probabilities are calibrated on the shots left out. Below a bound the answer can be no class at all.

probabilities = classifier.predict_proba(E[~shots])
print(f"mean confidence {100 * probabilities.max(axis=1).mean():.1f} %")
answers = classifier.predict(E[~shots], reject_below=0.5, reject_label="?")
print(f"{(answers == '?').sum()} pictures without an answer")

# %%
# More pictures later
# -------------------
#
# ``partial_fit`` takes them without the earlier ones; ``save`` writes one file. On the command line the whole page is
# ``isomix fit shots/ -o animals.safetensors`` and ``isomix classify animals.safetensors new/*.png``.

more = np.array([path.stem == "mynaui" for path in paths])
classifier.partial_fit(E[more], labels[more])
rest = ~(shots | more)
print(f"{100 * classifier.score(E[rest], labels[rest]):.1f} %")
