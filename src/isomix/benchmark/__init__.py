"""The harness of ``isomix eval``: data sets, protocols, methods, runs and their tables."""
