"""What every test gets: the helpers of this folder, one thread, a cache of its own, the mends for PyPI's gradio 4, tiny parts."""

import json
import os
import sys
from pathlib import Path
from typing import Any

# before the first import of torch: a tiny model is many times faster on one thread
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TESTS = Path(__file__).resolve().parent
if str(TESTS) not in sys.path:  # `import tiny`, `import gradio_shim`, `from webui_double import loader` work in every folder
    sys.path.insert(0, str(TESTS))

import gradio_shim  # noqa: E402
import pytest  # noqa: E402
import tiny  # noqa: E402
from hypothesis import settings  # noqa: E402

gradio_shim.install()
settings.register_profile("tests", deadline=None, print_blob=True)
settings.load_profile("tests")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Prepared data of the tests go to a folder of their own, also those of subprocesses."""
    before = os.environ.get("TRAINING_PRO_CACHE")
    os.environ["TRAINING_PRO_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("TRAINING_PRO_CACHE")
    if before is not None:
        os.environ["TRAINING_PRO_CACHE"] = before


@pytest.fixture
def tiny_model() -> Any:
    """A new tiny model on the CPU, in evaluation mode; the test may change it."""
    return tiny.model()


@pytest.fixture
def tiny_tokenizer() -> Any:
    """A new tokenizer with ChatML; the test may change it."""
    return tiny.fresh_tokenizer()


@pytest.fixture
def chat_file(tmp_path: Path) -> Path:
    """24 conversations as JSON lines."""
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in tiny.conversations()), encoding="utf-8")
    return path
