"""Embedding on many machines: Ray runs the units of work, and a unit is done when its rows are in the table."""

from isomix.cluster.ray_engine import RayEngine

__all__ = ["RayEngine"]
