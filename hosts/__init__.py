"""Where the engine runs: inside the WebUI, as a page of its own, with the embedded model."""
