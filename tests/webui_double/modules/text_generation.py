"""One reply at a time, under the lock that a training run must not hold."""

import modules.shared as shared
from modules import models
from modules.extensions import apply_extensions
from modules.utils import check_model_loaded


def generate_reply(*args, **kwargs):
    """Yield the growing reply; the lock is held from the first to the last piece."""
    models.load_model_if_idle_unloaded()
    shared.generation_lock.acquire()
    with models._generation_count_lock:
        models.active_generation_count += 1
    try:
        yield from _generate_reply(*args, **kwargs)
    finally:
        with models._generation_count_lock:
            models.active_generation_count -= 1
        shared.generation_lock.release()


def _generate_reply(question, state, stopping_strings=None, is_chat=False, escape_html=False, for_ui=False):
    generate = apply_extensions("custom_generate_reply")
    if generate is None:
        if not check_model_loaded()[0]:
            yield ""
            return
        generate = generate_reply_HF
    yield from generate(question, question, state, stopping_strings, is_chat=is_chat)


def generate_reply_HF(question, original_question, state, stopping_strings=None, is_chat=False):
    """The most likely continuation, in one piece."""
    import torch

    inputs = shared.tokenizer(question, return_tensors="pt").to(shared.model.device)
    limit = state.get("max_new_tokens", shared.settings["max_new_tokens"])
    with torch.no_grad():
        output = shared.model.generate(**inputs, max_new_tokens=limit, do_sample=False)
    yield shared.tokenizer.decode(output[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True)
