"""A model on disk: a folder of four files, from which it is rebuilt without pickle.

`model.json` says how to build the network and which forms it took on, `model.safetensors` holds its tensors; `model.onnx` and
`model.slim` are the same network to run and to ship. `model.sha256` tells when one of them was altered.
"""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from slimline.core.forms import take_on
from slimline.core.integers import check_sums
from slimline.core.quantized import load_stored_state, stored_state
from slimline.data.prepared import Description, Resize
from slimline.errors import SlimlineError
from slimline.export.digests import check_digests, digests
from slimline.export.onnx import to_onnx
from slimline.export.packed import read_packed, to_packed
from slimline.files import whole_folder, write_bytes, write_json
from slimline.models.network import network
from slimline.paths import ModelFolder
from slimline.registry import describe

MASK = ".mask"
"""How the names of masks end."""


class Manifest(BaseModel):
    """`model.json`: all that a model is besides its tensors.

    Args:
        architecture: an entry of the zoo, `{name, **parameters}`.
        input_shape: channels, height, width.
        mean, std: normalization, a number a channel, of images in [0, 1].
        classes: names, in the order of the logits.
        resize, background: how an image of another size becomes one of `input_shape` (`data.prepare.decode.Form`).
        forms: what the network became after it was built, see `core.forms`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal[1] = 1
    architecture: dict[str, Any]
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    resize: Resize = "fit"
    background: int = Field(default=255, ge=0, le=255)
    forms: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, architecture: Mapping[str, Any], data: Description) -> "Manifest":
        """That of a network which learns from `data`."""
        return cls(
            architecture=dict(architecture),
            input_shape=data.input_shape,
            mean=data.mean,
            std=data.std,
            classes=data.classes,
            resize=data.resize,
            background=data.background,
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """What `model.onnx` says of itself."""
        how = {"resize": self.resize, "background": self.background, "scale": "pixels / 255"}
        return {"classes": self.classes, "preprocessing": {**how, "mean": self.mean, "std": self.std, "normalization": "inside the graph"}}

    def after(self, form: str, record: Mapping[str, Any]) -> "Manifest":
        """This manifest once the network has taken on one more form."""
        return self.model_copy(update={"forms": (*self.forms, {"form": form, "record": dict(record)})})


def fresh(manifest: Manifest) -> nn.Module:
    """The network that `manifest` describes, its tensors not yet set.

    Raises:
        SlimlineError: an architecture or a form that is not known here.
    """
    model = network(manifest.architecture, manifest.input_shape, len(manifest.classes), manifest.mean, manifest.std)
    return take_on(model, manifest.forms)


def untrained(manifest: Manifest) -> nn.Module:
    """`fresh`, its weights as at the beginning of a training; those of resized layers too.

    Raises:
        SlimlineError: a form other than that of resized layers, which keeps what was learned.
    """
    model = fresh(manifest)
    for form in manifest.forms:
        if form["form"] != "resized":
            raise SlimlineError(
                f"the model has the form '{form['form']}', which has no untrained weights; prune channels, or make from_scratch false"
            )
        for name in form["record"]:
            model.get_submodule(name).reset_parameters()  # type: ignore[operator]  # every kind that can be resized has it
    return model


def packed(manifest: Manifest, model: nn.Module, provenance: str | None = None) -> bytes:
    """The packed file of `model`, without masks: what they took is zero in the weights.

    Args:
        provenance: digest of what it was made of, in hexadecimal digits. With or without, the file has the same size.
    """
    state = {name: tensor for name, tensor in stored_state(model).items() if not name.endswith(MASK)}
    return to_packed(manifest.model_dump(mode="json"), state, provenance)


def save(
    target: ModelFolder,
    manifest: Manifest,
    model: nn.Module,
    *,
    early: Mapping[str, Tensor] | None = None,
    provenance: str | None = None,
    check: Callable[[ModelFolder], None] | None = None,
) -> None:
    """Write all four files of `model` and their digests, whole or not at all.

    Args:
        early: weights of an early step of its training, to be kept beside it.
        provenance: as in `packed`.
        check: called with the written files before they take their place; if it raises, they never do.
    """
    state = stored_state(model)
    check_sums(model)
    with whole_folder(target.folder) as folder:
        files = ModelFolder(folder)
        write_json(files.manifest, manifest.model_dump(mode="json"))
        write_bytes(files.weights, to_safetensors({name: tensor.contiguous() for name, tensor in state.items()}))
        write_bytes(files.onnx, to_onnx(model, manifest.input_shape, manifest.metadata))
        write_bytes(files.packed, packed(manifest, model, provenance))
        if early is not None:
            write_bytes(files.early, to_safetensors({name: tensor.contiguous() for name, tensor in early.items()}))
        write_bytes(files.digests, digests(folder.iterdir()))
        if check is not None:
            check(files)


def load(source: ModelFolder) -> tuple[Manifest, nn.Module]:
    """Rebuild a model, in eval mode.

    Raises:
        SlimlineError: a file that is missing, truncated, altered, foreign, or does not fit the others.
    """
    try:
        description = json.loads(source.manifest.read_text())
        state = load_file(source.weights)
    except FileNotFoundError as error:
        raise SlimlineError(
            f"{source.folder}: no model here ({Path(error.filename or source.weights).name} is missing); run the stage that makes it"
        ) from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise SlimlineError(f"{source.folder}: a truncated or foreign model file ({error}); run the stage that makes it again") from error
    check_digests(source, source.files)
    return _rebuilt(description, state, str(source.folder))


def load_early(source: ModelFolder, model: nn.Module) -> nn.Module:
    """A copy of `model`, which lies in `source`, with the weights of the early step that are kept beside it.

    Raises:
        SlimlineError: none are kept, or they do not fit.
    """
    try:
        check_digests(source, [source.early])
        early = copy.deepcopy(model)
        early.load_state_dict(load_file(source.early))
    except FileNotFoundError as error:
        raise SlimlineError(f"{source.folder}: no early weights are kept here; set distill.early to the step that they should be of") from error
    except (SafetensorError, RuntimeError) as error:
        raise SlimlineError(f"{source.early}: weights that do not fit the model beside them ({' '.join(str(error).split())[:200]})") from error
    return early


def load_packed(path: Path) -> tuple[Manifest, nn.Module]:
    """Rebuild a model from its packed file alone, in eval mode.

    Raises:
        SlimlineError: missing, truncated, altered or foreign.
    """
    description, state = read_packed(path)
    return _rebuilt(description, state, str(path), masks=False)


def _rebuilt(description: Any, state: Mapping[str, Tensor], where: str, *, masks: bool = True) -> tuple[Manifest, nn.Module]:
    """
    Args:
        masks: whether `state` has them; else they keep what is not zero.
    """
    try:
        manifest = Manifest.model_validate_json(json.dumps(description))
        model = fresh(manifest)
        missing = {} if masks else {name: torch.ones_like(mask) for name, mask in model.state_dict().items() if name.endswith(MASK)}
        load_stored_state(model, {**state, **missing})
        with torch.no_grad():
            for name in missing:
                model.get_buffer(name).copy_(model.get_parameter(f"{name.removesuffix(MASK)}.weight") != 0)
            outputs = model.eval()(torch.zeros(1, *manifest.input_shape)).shape[1]
        if outputs != len(manifest.classes):
            raise SlimlineError(f"{outputs} outputs cannot stand for {len(manifest.classes)} classes")
    except ValidationError as error:
        raise SlimlineError(f"{where}: no manifest of a model ({': '.join(describe(error, Manifest))})") from error
    except SlimlineError as error:
        raise SlimlineError(f"{where}: {error}") from error
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise SlimlineError(f"{where}: tensors and manifest do not fit together ({' '.join(str(error).split())[:200]})") from error
    return manifest, model
