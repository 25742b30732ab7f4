"""Data sets by name, in the layouts that people already have; and one's own."""

from isomix.benchmark.datasets import captions, coop, instances
from isomix.benchmark.datasets.base import DATASETS, Captions, Dataset, Pictures
from isomix.benchmark.datasets.own import open_dataset

__all__ = ["DATASETS", "Captions", "Dataset", "Pictures", "open_dataset"]

DATASETS.update({dataset.name: dataset for dataset in (*coop.SETS, *instances.SETS, *captions.SETS)})
