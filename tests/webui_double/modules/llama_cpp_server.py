"""A stand-in that cannot be trained; the WebUI tells such models by their class name."""


class LlamaServer:
    """Remembers the path and that it was stopped; serves nothing."""

    def __init__(self, model_path, server_path=None):
        self.model_path = model_path
        self.stopped = False

    def stop(self):
        """End the server process that the real class would have started."""
        self.stopped = True
