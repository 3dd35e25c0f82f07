"""Training methods on bases that bitsandbytes has packed, on the CPU: trained, loaded back, the packed bytes as they were; and LoftQ."""

from pathlib import Path
from typing import Any

import families
import pytest
import tiny
import torch
from training_pro import train_utils
from training_pro.adapting.initial import lora_layers
from training_pro.adapting.methods import METHODS
from training_pro.adapting.quantization import Loading, keep_packed, load_model, packed_layers, unpacked_weight
from training_pro.adapting.targets import choose_targets
from training_pro.adapting.wish import Wish
from training_pro.train_utils import borrowed, count_parameters

pytest.importorskip("bitsandbytes")
IN_PEFT = [name for name, method in METHODS.items() if method.in_peft]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("packed") / "model")


def load(folder: Path, quantization: str = "nf4") -> Any:
    model = load_model(folder, Loading(dtype="float32", quantization=quantization, compute_dtype="float32"), "cpu")
    keep_packed(model)
    return model.eval()


def packed(model: Any) -> dict[str, torch.Tensor]:
    return {path: layer.weight.data.clone() for path, layer in packed_layers(model)}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first
    return first.keys() == second.keys() and all(torch.equal(first[path], second[path]) for path in first)


def wish_for(model: Any, method: str, **changes: Any) -> Wish:
    sizes = {"rank": 4, "alpha": 8, "vera_rank": 8, "oft_block_size": 8}
    return Wish(method, choose_targets(model, ["all-linear"]), **{**sizes, **changes})


@pytest.mark.parametrize(
    ("method", "quantization"),
    [(method, kind) for method in IN_PEFT for kind in ("nf4", "int8") if (method, kind) != ("dora", "int8")],
)
def test_a_method(tmp_path: Path, folder: Path, method: str, quantization: str) -> None:
    from peft import PeftModel

    model = load(folder, quantization)
    assert [place.inputs for place in choose_targets(model, ["q-v"]).places] == [64] * 4
    before, wish = packed(model), wish_for(model, method)
    with borrowed(model, None):
        size = train_utils.model_size(model, wish)
        fitted = train_utils.fit(model, wish)
        assert count_parameters(fitted.model)[0] == size.num_trained
        families.train(fitted.model, steps=2)
        trained = families.logits(fitted.model)
        fitted.save(tmp_path)
        fitted.undo()
    assert same(packed(model), before)
    assert (families.logits(model) - trained).abs().max() > 1e-3
    result = families.logits(PeftModel.from_pretrained(load(folder, quantization), str(tmp_path)))
    assert (result - trained).abs().max() < 1e-5


@pytest.mark.parametrize(("alpha", "rslora"), [(4, False), (16, False), (8, True)])
def test_loftq_is_the_best_correction(folder: Path, alpha: float, rslora: bool) -> None:
    """Of its rank, whatever the adapter's scale; the oracle is the tail of the singular values."""
    model, original = load(folder), tiny.model()
    before, worse = packed(model), (families.logits(model) - families.logits(original)).abs().mean()
    weights = dict(original.named_parameters())
    with borrowed(model, None):
        wish = wish_for(model, "lora", alpha=alpha, rslora=rslora, rslora_alpha=3, rank=16, initialisation="loftq")
        fitted = train_utils.fit(model, wish)
        seen = 0
        for path, layer in lora_layers(fitted.model):
            weight = weights[f"{path.removeprefix('base_model.model.')}.weight"].detach()
            lost = weight - unpacked_weight(layer.get_base_layer()).float()
            left = lost - layer.get_delta_weight("default").detach()
            tail = torch.linalg.svdvals(lost)[16:]
            assert left.norm() == pytest.approx(float(tail.norm()), rel=1e-3, abs=1e-5)
            assert left.norm() < lost.norm()
            seen += 1
        assert seen == 14
        assert (families.logits(fitted.model) - families.logits(original)).abs().mean() < 0.8 * worse
        fitted.undo()
    assert same(packed(model), before)


def test_loftq_needs_the_unpacked_folder(tmp_path: Path, folder: Path) -> None:
    model = load(folder)
    model.config._name_or_path = str(tmp_path)
    with (
        borrowed(model, None),
        pytest.raises(ValueError, match="Initialisation loftq: it needs the model's own weights in .* is not there"),
    ):
        train_utils.fit(model, wish_for(model, "lora", initialisation="loftq"))
    eight = load(folder, "int8")
    with pytest.raises(ValueError, match="Initialisation loftq: it makes good what a 4-bit base has lost"):
        train_utils.model_size(eight, wish_for(eight, "lora", initialisation="loftq"))


@pytest.mark.parametrize(
    ("method", "changes"), [("full", {}), ("lora", {"initialisation": "pissa"}), ("lora", {"initialisation": "olora"})]
)
def test_what_changes_the_base_is_refused(folder: Path, method: str, changes: dict[str, Any]) -> None:
    model = load(folder)
    with pytest.raises(ValueError, match="it changes the weights of the base, and those of this model are packed"):
        train_utils.model_size(model, wish_for(model, method, **changes))


def test_dora_on_8_bits_is_refused_on_a_cpu(folder: Path) -> None:
    model = load(folder, "int8")
    with pytest.raises(
        ValueError, match="Method: peft cannot put dora on an 8-bit base on a CPU. Choose lora, or load the model in 4 bits"
    ):
        train_utils.model_size(model, wish_for(model, "dora"))
