"""Where embeddings live: the table, the embedding run that fills it, foreign layouts, and adapting what is stored."""

from isomix.store.adapt import AdaptReport, adapt, adapt_column
from isomix.store.convert import ConvertReport, convert
from isomix.store.databases import DatabaseReport, adapt_database, open_database
from isomix.store.embed import embed
from isomix.store.formats import open_embeddings
from isomix.store.plan import EmbedReport
from isomix.store.smooth import SmoothReport, smooth_column
from isomix.store.table import EmbeddingTable

__all__ = [
    "AdaptReport",
    "ConvertReport",
    "DatabaseReport",
    "EmbedReport",
    "EmbeddingTable",
    "SmoothReport",
    "adapt",
    "adapt_column",
    "adapt_database",
    "convert",
    "embed",
    "open_database",
    "open_embeddings",
    "smooth_column",
]
