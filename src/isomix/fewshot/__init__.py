"""Few-shot classification of embeddings without training: numpy in, numpy out.

A classifier is a sum of terms; ``Term``, ``Linear``, ``Weighted`` and the terms are for sums of your own.
"""

from isomix.fewshot.base import CLASSIFIERS, FewShotClassifier
from isomix.fewshot.cache import Cache
from isomix.fewshot.classifiers import GDA, LDA, MixedPrototypes, NearestClassMean, TextAlignedPrototypes, ZeroShot
from isomix.fewshot.discriminant import Discriminant
from isomix.fewshot.instance_classifiers import APE, ProKeR, TipAdapter
from isomix.fewshot.kernel_ridge import KernelRidge
from isomix.fewshot.persistence import load_classifier
from isomix.fewshot.pool_trust import Pool
from isomix.fewshot.project_and_mix import ProjectAndMix
from isomix.fewshot.proto_clip import ProtoCLIP
from isomix.fewshot.prototypes import PrototypeCosine, TextCosine
from isomix.fewshot.shrinkage_report import ShrinkageReport, shrinkage_report
from isomix.fewshot.terms import Linear, Term, Weighted
from isomix.fewshot.timo import TIMO

__all__ = [
    "APE",
    "CLASSIFIERS",
    "GDA",
    "LDA",
    "TIMO",
    "Cache",
    "Discriminant",
    "FewShotClassifier",
    "KernelRidge",
    "Linear",
    "MixedPrototypes",
    "NearestClassMean",
    "Pool",
    "ProKeR",
    "ProjectAndMix",
    "ProtoCLIP",
    "PrototypeCosine",
    "ShrinkageReport",
    "Term",
    "TextAlignedPrototypes",
    "TextCosine",
    "TipAdapter",
    "Weighted",
    "ZeroShot",
    "load_classifier",
    "shrinkage_report",
]
