"""Metrics of retrieval and classification."""

from isomix.metrics.bootstrap import bootstrap_intervals
from isomix.metrics.classification import classification_metrics
from isomix.metrics.ranking import average_precisions
from isomix.metrics.retrieval import retrieval_metrics, scores_metrics
from isomix.metrics.revisited import revisited_average_precision, revisited_metrics

__all__ = [
    "average_precisions",
    "bootstrap_intervals",
    "classification_metrics",
    "retrieval_metrics",
    "revisited_average_precision",
    "revisited_metrics",
    "scores_metrics",
]
