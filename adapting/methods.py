"""The table of training methods: how weights move, by the name on the form.

A method is two functions that make a :class:`~.fitted.Fitted` and one that says its size beforehand; a new one is a line here and a row in
tests/adapting/test_methods.py, whose properties run over the table. Guarantee: importing this needs neither torch nor peft. Price: none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .fitted import Fitted
from .full import check_full, fit_full, full_size, refit_full
from .lora import MakeConfig, fit_peft, refit_peft
from .lora_kinds import (
    check_linear,
    check_lora,
    check_oft,
    ia3_config,
    ia3_size,
    lora_config,
    lora_size,
    oft_config,
    oft_size,
    vera_config,
    vera_size,
)
from .sift import SIFT_FILES, check_sift, fit_sift, refit_sift, sift_size
from .wish import ADAPTER_FILES, MODEL_FILES, Size, Wish


def _no_check(model: Any, wish: Wish) -> None:
    return None


@dataclass(frozen=True)
class Method:
    """One way to train.

    Attributes:
        words: what it is and when to take it, for the form.
        fit: makes a model trainable by a wish; random numbers are seeded before.
        refit: takes up what ``fit``'s ``save`` wrote into a folder (``wish.resuming``), or a finished result.
        size: trained weights and bytes of the result, from the base model alone; exact.
        check: raises a ValueError with reason and remedy where a model cannot take the wish.
        files: patterns of what lies in a folder that holds a result.
        in_peft: whether plain peft, and so the WebUI's LoRA menu, loads the result.
        uses_targets: whether it asks for target modules.
    """

    words: str
    fit: Callable[[Any, Wish], Fitted]
    refit: Callable[[Any, Path, Wish], Fitted]
    size: Callable[[Any, Wish], Size]
    check: Callable[[Any, Wish], None] = _no_check
    files: tuple[str, ...] = ADAPTER_FILES
    in_peft: bool = True
    uses_targets: bool = True


def _peft(words: str, config: MakeConfig, size: Callable[[Any, Wish], Size], check: Callable[[Any, Wish], None]) -> Method:
    """A method that peft has."""
    return Method(words, partial(fit_peft, make_config=config), partial(refit_peft, make_config=config), size, check)


METHODS: dict[str, Method] = {
    "lora": _peft("small matrices beside the weights; the safe choice.", lora_config, lora_size, check_lora),
    "dora": _peft(
        "LoRA that learns direction and length apart: a little better at low rank, slower.", lora_config, lora_size, check_lora
    ),
    "vera": _peft(
        "two vectors for each module around random matrices that all share: ten times fewer weights than LoRA, wants a learning rate of "
        "about 1e-2.",
        vera_config,
        vera_size,
        check_linear,
    ),
    "oft": _peft(
        "rotates the inputs of each module; keeps more of what the model can do, slower.", oft_config, oft_size, check_oft
    ),
    "ia3": _peft(
        "one factor for each output: the smallest, wants a learning rate of about 1e-2.", ia3_config, ia3_size, check_linear
    ),
    "full": Method(
        "every weight of the model; the result is a whole model.",
        fit_full,
        refit_full,
        full_size,
        check_full,
        files=MODEL_FILES,
        in_peft=False,
        uses_targets=False,
    ),
    "sift": Method(
        "the components of each weight with the largest gradient; the result is a small file of changes to this very model.",
        fit_sift,
        refit_sift,
        sift_size,
        check_sift,
        files=SIFT_FILES,
        in_peft=False,
    ),
}
