"""Neighbours of embeddings: exact and indexed search, near-duplicates."""

from isomix.neighbors.exact import BACKENDS, search
from isomix.neighbors.near_duplicates import Pairs, duplicates, near_pairs, split_leaks

__all__ = ["BACKENDS", "Pairs", "duplicates", "near_pairs", "search", "split_leaks"]
