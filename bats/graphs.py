"""CUDA graphs: a sequence of launches captured once, then replayed with one call from the host."""


class GraphCache:
    """Captured sequences by key. The first run of a key launches normally, which also compiles kernels and allocates what
    is missing; the second captures; later ones replay. A key is captured anew when its workspaces change."""

    def __init__(self):
        self._graphs = {}

    def run(self, key, launch, workspaces):
        """launch(): enqueues the work on the current stream; workspaces: a value that changes if its arrays are replaced."""
        seen, graph = self._graphs.get(key, (None, None))
        if seen != workspaces:
            launch()
            self._graphs[key] = (workspaces, None)
            return
        if graph is None:
            graph = self._capture(launch)
            self._graphs[key] = (workspaces, graph)
        graph.launch()

    @staticmethod
    def _capture(launch):
        import cupy

        stream = cupy.cuda.Stream()  # the legacy default stream cannot be captured; this one waits for it and it for this
        with stream:
            stream.begin_capture()
            try:
                launch()
            finally:
                graph = stream.end_capture()
        return graph

    def clear(self):
        self._graphs.clear()
