"""What the WebUI's other modules and its extensions share: the model, the flags, the settings, the paths.

Flags are parsed when this module is imported, from ``sys.argv``, as in the WebUI.
"""

import argparse
import copy
from pathlib import Path

from modules.logging_colors import logger  # noqa: F401
from modules.paths import resolve_user_data_dir

user_data_dir = resolve_user_data_dir()

model = None
tokenizer = None
model_name = "None"
model_dirty_from_training = False
lora_names = []

stop_everything = False
generation_lock = None

gradio = {}
persistent_interface_state = {}
need_restart = False

parser = argparse.ArgumentParser(description="WebUI double", conflict_handler="resolve")
parser.add_argument("--user-data-dir", type=str, default=str(user_data_dir))
parser.add_argument("--multi-user", action="store_true")
parser.add_argument("--model", type=str)
parser.add_argument("--lora", type=str, nargs="+")
parser.add_argument("--model-dir", type=str, default=str(user_data_dir / "models"))
parser.add_argument("--lora-dir", type=str, default=str(user_data_dir / "loras"))
parser.add_argument("--extensions", type=str, nargs="+")
parser.add_argument("--idle-timeout", type=int, default=0)
parser.add_argument("--loader", type=str)
parser.add_argument("--ctx-size", "--n_ctx", "--max_seq_len", type=int, default=0)
parser.add_argument("--cpu", action="store_true")
parser.add_argument("--load-in-8bit", action="store_true")
parser.add_argument("--load-in-4bit", action="store_true")
parser.add_argument("--bf16", action="store_true")
parser.add_argument("--compute_dtype", type=str, default="float16")
parser.add_argument("--quant_type", type=str, default="nf4")
parser.add_argument("--listen", action="store_true")
parser.add_argument("--listen-port", type=int)
parser.add_argument("--listen-host", type=str)
parser.add_argument("--share", action="store_true")
parser.add_argument("--portable", action="store_true")
parser.add_argument("--nowebui", action="store_true")

args = parser.parse_args()
user_data_dir = Path(args.user_data_dir)
original_args = copy.deepcopy(args)

settings = {
    "mode": "instruct",
    "max_new_tokens": 512,
    "truncation_length": 8192,
    "seed": -1,
    "dark_theme": True,
    "instruction_template_str": "",
    "chat_template_str": "",
    "default_extensions": [],
}
default_settings = copy.deepcopy(settings)


def fix_loader_name(name):
    """The loader's name in the WebUI's own spelling, whatever the user's."""
    known = {
        "llama.cpp": "llama.cpp",
        "transformers": "Transformers",
        "exllamav3": "ExLlamav3",
        "exllamav3_hf": "ExLlamav3_HF",
    }
    return known.get(name.lower()) if name else name


args.loader = fix_loader_name(args.loader)
