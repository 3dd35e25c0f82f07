"""A stand-in that cannot be trained; the WebUI tells such models by their class name."""


class Exllamav3Model:
    """Remembers the path and that it was unloaded; computes nothing."""

    path = None
    unloaded = False

    @classmethod
    def from_pretrained(cls, path_to_model):
        """(model, tokenizer), the tokenizer being the model itself."""
        model = cls()
        model.path = path_to_model
        return model, model

    def unload(self):
        """Free what the real class would hold."""
        self.unloaded = True
