"""Distances in a graph."""

from collections import deque


def distance(edges, start, goal):
    """Number of edges on a shortest path, or None. `edges` maps a node to its neighbours."""
    seen = {start}
    queue = deque([(start, 0)])
    while queue:
        node, distance = queue.popleft()
        if node == goal:
            return distance
        for neighbour in edges.get(node, []):
            if neighbour not in seen:
                seen.add(neighbour)
                queue.append((neighbour, distance))
    return None
