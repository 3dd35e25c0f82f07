"""Finding, running and showing extensions, with the WebUI's ways of importing them and of failing."""

import importlib
import importlib.util
import sys

import modules.shared as shared
from modules.logging_colors import logger

state = {}
available_extensions = []
setup_called = set()


def apply_settings(extension, name):
    """Settings called NAME-param replace the extension's own params."""
    params = getattr(extension, "params", {})
    shared.default_settings.update({f"{name}-{key}": value for key, value in params.items()})
    params.update({key: shared.settings[f"{name}-{key}"] for key in params if f"{name}-{key}" in shared.settings})


def load_extensions():
    """Run the scripts of the extensions in shared.args.extensions; afterwards `state` lists those that came up.

    Raises:
        ModuleNotFoundError: From a script; it ends the WebUI. Other exceptions are logged and the extension is left out.
    """
    global state
    state = {}
    for position, name in enumerate(shared.args.extensions):
        if name not in available_extensions:
            continue
        try:
            extension = _run_script(name)
            _set_up(extension, name)
        except ModuleNotFoundError:
            logger.error(f"Could not import the requirements for '{name}'.")
            raise
        except Exception:
            logger.exception(f'Failed to load the extension "{name}".')
        else:
            state[name] = [True, position, extension]


def _run_script(name):
    """A user's script is executed anew on each call and is in no package; the WebUI's own stays imported."""
    script = shared.user_data_dir / "extensions" / name / "script.py"
    if not script.exists():
        return importlib.import_module(f"extensions.{name}.script")
    spec = importlib.util.spec_from_file_location(f"user_ext_{name}", str(script))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _set_up(extension, name):
    """Once per module object, so once for the WebUI's own and at every load for the user's."""
    if extension in setup_called:
        return
    apply_settings(extension, name)
    if hasattr(extension, "setup"):
        extension.setup()
    setup_called.add(extension)


def iterator():
    """(extension, name) of those that came up, in the order of the command line."""
    for name, (active, _, extension) in sorted(state.items(), key=lambda item: item[1][1]):
        if active:
            yield extension, name


def _apply_custom_generate_reply():
    found = (getattr(extension, "custom_generate_reply", None) for extension, _ in iterator())
    return next((function for function in found if function is not None), None)


def _apply_custom_css():
    return "".join(extension.custom_css() for extension, _ in iterator() if hasattr(extension, "custom_css"))


def _apply_custom_js():
    return "".join(extension.custom_js() for extension, _ in iterator() if hasattr(extension, "custom_js"))


def create_extensions_tabs():
    """A tab for every extension with params['is_tab'], inside the Blocks that is open."""
    import gradio as gr

    for extension, name in iterator():
        params = getattr(extension, "params", {})
        if hasattr(extension, "ui") and params.get("is_tab", False):
            with gr.Tab(params.get("display_name", name), elem_classes="extension-tab"):
                extension.ui()


EXTENSION_MAP = {
    "custom_generate_reply": _apply_custom_generate_reply,
    "css": _apply_custom_css,
    "js": _apply_custom_js,
}


def apply_extensions(typ, *args, **kwargs):
    """Call one kind of hook of the loaded extensions."""
    if typ not in EXTENSION_MAP:
        raise ValueError(f"Invalid extension type {typ}")
    return EXTENSION_MAP[typ](*args, **kwargs)
