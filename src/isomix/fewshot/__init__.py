"""Few-shot classification of embeddings without training: numpy in, numpy out."""

from isomix.fewshot.base import CLASSIFIERS, FewShotClassifier
from isomix.fewshot.discriminant import LDA
from isomix.fewshot.gap_shifted import GapShiftedLDA
from isomix.fewshot.gda import GDA
from isomix.fewshot.persistence import load_classifier
from isomix.fewshot.project_and_mix import ProjectAndMix
from isomix.fewshot.proker import ProKeR
from isomix.fewshot.proto_clip import ProtoCLIP
from isomix.fewshot.prototypes import MixedPrototypes, NearestClassMean, TextAlignedPrototypes, ZeroShot
from isomix.fewshot.shrinkage_report import ShrinkageReport, shrinkage_report
from isomix.fewshot.timo import TIMO
from isomix.fewshot.tip_adapter import APE, TipAdapter

__all__ = [
    "APE",
    "CLASSIFIERS",
    "GDA",
    "LDA",
    "TIMO",
    "FewShotClassifier",
    "GapShiftedLDA",
    "MixedPrototypes",
    "NearestClassMean",
    "ProKeR",
    "ProjectAndMix",
    "ProtoCLIP",
    "ShrinkageReport",
    "TextAlignedPrototypes",
    "TipAdapter",
    "ZeroShot",
    "load_classifier",
    "shrinkage_report",
]
