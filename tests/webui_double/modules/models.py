"""Loading and unloading, with real Transformers models and stand-ins for the loaders that cannot train."""

import sys
import threading
import time

import modules.shared as shared
from modules.logging_colors import logger
from modules.utils import resolve_model_path

last_generation_time = time.time()
active_generation_count = 0
_generation_count_lock = threading.Lock()


def load_model_if_idle_unloaded():
    """Load the model again that was put away for want of use."""
    global last_generation_time
    if shared.args.idle_timeout > 0 and shared.model is None and shared.model_name not in [None, "None"]:
        shared.model, shared.tokenizer = load_model(shared.model_name)
        last_generation_time = time.time()


def load_model(model_name, loader=None):
    """(model, tokenizer) of a folder of --model-dir; remembers the name and the loader."""
    logger.info(f'Loading "{model_name}"')
    shared.model_name = model_name
    loader = loader or shared.args.loader or "Transformers"
    shared.args.loader = loader
    if loader != "llama.cpp" and shared.args.ctx_size == 0:
        shared.args.ctx_size = 8192
    load = {
        "llama.cpp": llama_cpp_server_loader,
        "Transformers": transformers_loader,
        "ExLlamav3": ExLlamav3_loader,
    }
    return load[loader](model_name)


def transformers_loader(model_name):
    """A causal model in float32, as the WebUI loads on a CPU."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch._dynamo.config.disable = True
    path = resolve_model_path(model_name)
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32), AutoTokenizer.from_pretrained(path)


def llama_cpp_server_loader(model_name):
    """An object of the class name by which the WebUI recognises llama.cpp models."""
    from modules.llama_cpp_server import LlamaServer

    model = LlamaServer(resolve_model_path(model_name))
    return model, model


def ExLlamav3_loader(model_name):
    """An object of the class name by which the WebUI recognises ExLlama models."""
    from modules.exllamav3 import Exllamav3Model

    return Exllamav3Model.from_pretrained(model_name)


def unload_model(keep_model_name=False):
    """Forget the model, its adapters and, unless told otherwise, its name."""
    if shared.model is None:
        return
    kind = shared.model.__class__.__name__
    if kind == "Exllamav3Model":
        shared.model.unload()
    elif kind == "LlamaServer":
        shared.model.stop()
    shared.model = shared.tokenizer = None
    shared.lora_names = []
    shared.model_dirty_from_training = False
    if kind != "LlamaServer" and "torch" in sys.modules:
        from modules.torch_utils import clear_torch_cache

        clear_torch_cache()
    if not keep_model_name:
        shared.model_name = "None"


def reload_model():
    """Broken in the WebUI too: the name is forgotten before it is needed."""
    unload_model()
    shared.model, shared.tokenizer = load_model(shared.model_name)
