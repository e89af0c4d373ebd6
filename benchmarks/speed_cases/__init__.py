"""The graphs of the speed benchmark, by name."""

from __future__ import annotations

from speed_cases import imaging, matrices, sparse, wireless
from speed_cases.base import Graph

GRAPHS: dict[str, Graph] = {
    graph.name: graph for part in (sparse, wireless, imaging, matrices) for graph in part.graphs()
}


def find_graph(name: str) -> Graph:
    """A graph of the benchmark, or of the scaling curves, whose names hold their sizes: lista-12-24-tied-k16."""
    return GRAPHS[name] if name in GRAPHS else sparse.scaled(name)


__all__ = ["GRAPHS", "Graph", "find_graph"]
