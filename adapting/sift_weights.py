"""Weights of which only chosen components are trained, inside a model that is called as always.

What it does: each target weight stays frozen where it is; a vector of the chosen components' values in float32 is the parameter that
Trainer, optimizer, clipping and DDP see. While the model computes with gradients, the module that owns the weight finds in its place the
same memory under a node of autograd that keeps of the dense gradient only what belongs to the chosen components::

    weight  [[.2 .5 .1]     components  (1, 5)        dense gradient  [[.0 .9 .1]     gradient of the values  (.9 .7)
             [.3 .4 .6]]    values      (.5 .6)                        [.2 .1 .7]]

Guarantee: after every optimizer step the values stand in the weight (in its own number format) before anything computes with it, so no
step lags and the last one counts, in training, evaluation and generation alike; the values are the weights' own, not differences, so
weight decay, momentum and clipping act on them as a dense update does. :meth:`SparseModel.undo` gives the base back to the last bit.
Price: values, indices, gradients and optimizer state in proportion to the chosen components, and one dense gradient (of the weight whose
turn it is) while backward runs; no copy of a weight is ever made.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.optim.optimizer import register_optimizer_step_post_hook

SUFFIX = "_sift"
_LARGEST_INT32 = 2**31 - 1


class _Through(torch.autograd.Function):
    """A frozen weight as it is; what its gradient becomes for ``carrier`` is decided by ``take``."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, carrier: torch.Tensor, take: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        """The weight, in the same memory."""
        ctx.take = take
        return weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: torch.Tensor) -> tuple[Any, ...]:
        """The dense gradient exists here and is freed when this returns."""
        return None, ctx.take(above[0]), None


def take_at(tensor: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Components (k,) of a tensor of any shape and strides, at flat row-major indices (k,)."""
    if tensor.is_contiguous():
        return tensor.view(-1).index_select(0, indices)
    return torch.take(tensor, indices.long())


def put_at(tensor: torch.Tensor, indices: torch.Tensor, values: torch.Tensor) -> None:
    """Write components (k,) into a tensor, in its own number format."""
    with torch.no_grad():
        target, given = tensor.detach(), values.detach().to(tensor.dtype)
        if target.is_contiguous():
            target.view(-1).index_copy_(0, indices.long(), given)
        else:
            target.put_(indices.long(), given)


def index_type(num_weights: int) -> torch.dtype:
    """Smallest number format of flat indices."""
    return torch.int32 if num_weights <= _LARGEST_INT32 else torch.int64


@dataclass
class SparseWeight:
    """One weight and its chosen components.

    Attributes:
        name: of the parameter; tied weights are one, with the first of their names.
        weight: the base model's parameter, frozen.
        holders: modules that hold it, with the name it has there.
        values: (k,) what the components are now, in float32 at least; the trained parameter.
        indices: (k,) flat and ascending; None until they are chosen.
        originals: (k,) what the components were, in the base's number format.
    """

    name: str
    weight: torch.nn.Parameter
    holders: list[tuple[Any, str]]
    values: torch.nn.Parameter
    indices: torch.Tensor | None = None
    originals: torch.Tensor | None = None
    _written: int = -1

    @property
    def num_components(self) -> int:
        """How many components are trained."""
        return self.values.numel()

    def begin(self, indices: torch.Tensor, values: torch.Tensor | None = None) -> None:
        """Take up chosen components.

        Args:
            indices: (k,) flat.
            values: (k,) of an earlier training; None: what the base has.
        """
        self.indices = indices.to(self.weight.device, index_type(self.weight.numel()))
        self.originals = take_at(self.weight.detach(), self.indices)
        with torch.no_grad():
            self.values.copy_(self.originals if values is None else values.to(self.weight.device))
        self.write()

    def gradient(self, dense: torch.Tensor) -> torch.Tensor:
        """Of the values (k,), from the weight's."""
        assert self.indices is not None
        return take_at(dense, self.indices).to(self.values.dtype)

    def write(self) -> None:
        """Let the base weight have the values."""
        if self.indices is not None:
            put_at(self.weight, self.indices, self.values)
            self._written = self.values._version

    @property
    def is_stale(self) -> bool:
        """Whether the values were changed since they were written."""
        return self._written != self.values._version

    def restore(self) -> None:
        """Let the base weight have what it had."""
        if self.indices is not None and self.originals is not None:
            put_at(self.weight, self.indices, self.originals)


@dataclass
class SparseModel:
    """A model of which some components of some weights are trained.

    Attributes:
        model: what Trainer calls; changed in place until :meth:`undo`.
        weights: in the model's order.
    """

    model: Any
    weights: list[SparseWeight]
    _watched: dict[int, Callable[[torch.Tensor], None]] = field(default_factory=dict)
    _handles: list[Any] = field(default_factory=list)
    _flags: list[tuple[torch.nn.Parameter, bool]] = field(default_factory=list)

    def attach(self) -> None:
        """Freeze the base, register the values as parameters beside their weights, and lead gradients to them."""
        self._flags = [(parameter, parameter.requires_grad) for parameter in self.model.parameters()]
        self.model.requires_grad_(False)
        for weight in self.weights:
            owner, attribute = weight.holders[0]
            owner.register_parameter(attribute + SUFFIX, weight.values)
            for module, name in weight.holders:
                self._handles += _show(module, name, weight, self._through)
        self._handles.append(self.model.register_forward_pre_hook(self._before_forward))
        self._handles.append(_after_optimizer_steps(self))

    def undo(self) -> None:
        """Give the base model back: components to the last bit, flags, hooks and parameters. May be called again."""
        for handle in self._handles:
            handle.remove()
        for weight in self.weights:
            weight.restore()
            owner, attribute = weight.holders[0]
            owner._parameters.pop(attribute + SUFFIX, None)
        for parameter, flag in self._flags:
            parameter.requires_grad_(flag)
        self._handles, self._flags = [], []

    @property
    def is_chosen(self) -> bool:
        """Whether every weight has its components."""
        return all(weight.indices is not None for weight in self.weights)

    def watch(self, takers: dict[int, Callable[[torch.Tensor], None]]) -> None:
        """Show dense gradients instead of training.

        Args:
            takers: position in :attr:`weights` -> what looks at a dense gradient; empty ends it.
        """
        self._watched = {id(self.weights[number]): taker for number, taker in takers.items()}

    def wrote(self, parameters: Iterable[Any]) -> None:
        """An optimizer has changed these parameters."""
        changed = {id(parameter) for parameter in parameters}
        for weight in self.weights:
            if id(weight.values) in changed:
                weight.write()

    def _before_forward(self, module: Any, args: Any) -> None:
        if self._watched or not torch.is_grad_enabled() or self.is_chosen:
            for weight in self.weights:
                if weight.is_stale:  # a checkpoint was loaded, or an optimizer shows other values for evaluation
                    weight.write()
            return
        raise RuntimeError("SIFT: a step was asked for before the components were chosen. Call Fitted.choose before training.")

    def _through(self, weight: SparseWeight) -> torch.Tensor | None:
        """What a module finds instead of its weight; None = the weight itself."""
        if not torch.is_grad_enabled():
            return None
        taker = self._watched.get(id(weight))
        if taker is not None:
            return _watched(weight, taker)
        if self._watched or weight.indices is None:
            return None
        through: torch.Tensor = _Through.apply(weight.weight, weight.values, weight.gradient)
        return through


def _watched(weight: SparseWeight, taker: Callable[[torch.Tensor], None]) -> torch.Tensor:
    carrier = torch.zeros(1, device=weight.weight.device, requires_grad=True)

    def take(dense: torch.Tensor) -> torch.Tensor:
        taker(dense)
        return torch.zeros_like(carrier)

    through: torch.Tensor = _Through.apply(weight.weight, carrier, take)
    return through


def _show(module: Any, name: str, weight: SparseWeight, through: Callable[[SparseWeight], torch.Tensor | None]) -> list[Any]:
    """Hooks that put another tensor in a weight's place for the time of the module's forward."""

    def before(module: Any, args: Any) -> None:
        if (shown := through(weight)) is not None:
            module.__dict__[name] = shown  # found before the module's parameters are looked at

    def after(module: Any, args: Any, result: Any) -> None:
        module.__dict__.pop(name, None)

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after, always_call=True)]


def _after_optimizer_steps(sparse: SparseModel) -> Any:
    """Write at once what an optimizer changes, also those whose kernels tell torch nothing of it."""
    reference = weakref.ref(sparse)

    def after_step(optimizer: Any, args: Any, kwargs: Any) -> None:
        alive = reference()
        if alive is not None:
            alive.wrote(parameter for group in optimizer.param_groups for parameter in group["params"])

    return register_optimizer_step_post_hook(after_step)


def make_sparse(model: Any, sizes: dict[str, int]) -> SparseModel:
    """Fit a model for training components, which are chosen afterwards.

    Args:
        model: the base model; changed in place.
        sizes: name of a parameter -> how many of its components are trained.
    """
    parameters = dict(model.named_parameters())
    holders = _holders(model, [parameters[name] for name in sizes])
    weights = []
    for (name, size), held in zip(sizes.items(), holders, strict=True):
        weight = parameters[name]
        exact = torch.promote_types(weight.dtype, torch.float32)
        values = torch.nn.Parameter(torch.zeros(size, dtype=exact, device=weight.device))
        weights.append(SparseWeight(name, weight, held, values))
    sparse = SparseModel(model, weights)
    sparse.attach()
    return sparse


def _holders(model: Any, parameters: Sequence[Any]) -> list[list[tuple[Any, str]]]:
    """Modules that hold each parameter, and its name in them; several where weights are tied."""
    found: dict[int, list[tuple[Any, str]]] = {id(parameter): [] for parameter in parameters}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if id(parameter) in found:
                found[id(parameter)].append((module, name))
    return [found[id(parameter)] for parameter in parameters]
