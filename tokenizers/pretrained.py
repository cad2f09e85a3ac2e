"""Saving and loading of learned parts: safetensors and config.json, by folder, shipped name or hub repository.

`huggingface_hub.PyTorchModelHubMixin` gives save_pretrained, from_pretrained and push_to_hub. Two things are narrowed
here: weights load from safetensors only (the mixin would fall back on pickle), with every tensor named and shaped as
the config says; and they may be stored in a smaller type than they run in (`config.storage_dtype`).
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, cast

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..data.files import appears_whole, read_json

SHIPPED = Path(__file__).resolve().parent.parent / "models" / "weights"
WEIGHTS, CONFIG, CARD_FILE = "model.safetensors", "config.json", "README.md"
MAX_WEIGHTS_BYTES = 4 << 30
MAX_SURPLUS = 1 << 24  # parameters that are built before it is told which of them the file lacks
LEAST_COUNTED = 1000  # as which a smaller parameter counts: its module takes memory, too


def find_pretrained(name: str | Path, part: str = "") -> str:
    """Folder of a shipped name ("tokenloom-mini") or of a path on disk, or else `name` itself, a hub repository.

    `part` names a folder inside a shipped or local model, such as its image tokenizer.
    """
    for folder in (Path(name), SHIPPED / name):
        if (folder / part / "config.json").is_file() or (folder / part / "tokenizer.json").is_file():
            return str(folder / part)
    if Path(name).exists() or str(name).startswith((".", "/")):
        missing = Path(name) / part / "config.json"
        raise ValueError(f"a model folder must hold config.json, but {missing} is missing; name another folder")
    return str(name)


def check_storage_dtype(name: str) -> None:
    """
    Raises:
        ValueError: it is no type that weights are stored in.
    """
    if name not in ("float32", "float16"):
        raise ValueError(f"storage_dtype must be float32 or float16, got {name!r}")


CARD = """---
{{ card_data }}
---

Weights of a part of Tokenloom: its class and settings are in config.json, its tensors in model.safetensors.
Load it with the class's `from_pretrained`. Data, licences and scores are the business of the card of the model that
it belongs to.
"""


class Pretrained(PyTorchModelHubMixin, library_name="tokenloom", model_card_template=CARD):
    """Mixin for modules built from one frozen dataclass `config` that has a field `storage_dtype`."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load from a folder, a shipped name or a hub repository; see the mixin for the keywords.

        Raises:
            ValueError: nothing is found there, config.json is broken, or the weights do not fit it.
        """
        place = find_pretrained(pretrained_model_name_or_path)
        try:
            if Path(place).is_dir():
                read_json(Path(place) / "config.json")
            return super().from_pretrained(place, **kwargs)
        except (OSError, json.JSONDecodeError, TypeError, AttributeError, RuntimeError, ArithmeticError) as error:
            said = (str(error) or type(error).__name__).splitlines()[0]
            here = Path(place).is_dir()
            kind = "its config.json is broken or of another class" if here else "no shipped name, folder or repository"
            raise ValueError(f"{place} is no {cls.__name__} that can be loaded ({kind}: {said})") from error
        except ValueError as error:
            if str(place) in str(error):
                raise
            raise ValueError(f"{place} has a config.json that cannot be: {error}") from error  # the config refused it

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        map_location: str = "cpu",
        strict: bool = True,
        **model_kwargs: Any,
    ) -> Self:
        path = Path(model_id) / WEIGHTS
        if not Path(model_id).is_dir():
            path = Path(
                hf_hub_download(
                    repo_id=model_id,
                    filename=WEIGHTS,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    token=token,
                    local_files_only=local_files_only,
                )
            )
        with no_more_parameters_than(path):
            model = cls(**model_kwargs)
        load_weights(cast(nn.Module, model), path)
        cast(nn.Module, model).to(map_location).eval()
        return model

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> str | None:
        """Write config.json, weights and, where there is none yet, a card; see the mixin for the keywords.

        Each file appears whole, config.json last: what was saved there before can be loaded until it is replaced.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".unfinished-") as unfinished:
            said = super().save_pretrained(unfinished, **{"repo_id": folder.name, **kwargs})
            for file in sorted(Path(unfinished).iterdir(), key=lambda file: file.name == CONFIG):
                if file.name != CARD_FILE or not (folder / CARD_FILE).exists():
                    with appears_whole(folder / file.name) as whole:
                        os.replace(file, whole)
        return said

    def _save_pretrained(self, save_directory: Path) -> None:
        module = cast(nn.Module, self)
        dtype = getattr(torch, cast(Any, self).config.storage_dtype)
        tensors = {name: t.detach().to("cpu", dtype).contiguous() for name, t in module.state_dict().items()}
        save_file(tensors, save_directory / WEIGHTS)


@contextmanager
def no_more_parameters_than(path: Path) -> Iterator[None]:
    """While a module is built in the block, refuse more parameters than a file has bytes, `MAX_SURPLUS` aside.

    A config.json of a few bytes could ask for any amount of memory: weights that are not there must not be made room
    for. The memory of a parameter is not touched before it is registered, which is when we look.

    Raises:
        ValueError: there are more.
    """
    size = path.stat().st_size if path.is_file() else 0
    left = size + MAX_SURPLUS

    def count(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal left
        left -= 0 if parameter is None else max(parameter.numel(), LEAST_COUNTED)
        if left < 0:
            raise ValueError(f"{path} must hold what its config.json asks for, got {size} bytes, too few; restore both")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def load_weights(module: nn.Module, path: Path) -> None:
    """Copy the tensors of a safetensors file into `module`, in the module's own type.

    Raises:
        ValueError: the file is missing, broken or too large, or its tensors are not those of the module, or not finite.
    """
    if not path.is_file():
        raise ValueError(f"weights must lie in {path.name}, but {path} is missing; save the model again")
    if path.stat().st_size > MAX_WEIGHTS_BYTES:
        raise ValueError(f"{path} holds {path.stat().st_size} bytes, more than the {MAX_WEIGHTS_BYTES} we load")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a complete safetensors file ({error}); save or fetch it again") from error
    own = module.state_dict()
    wrong = sorted(own.keys() ^ tensors.keys()) or [n for n in own if own[n].shape != tensors[n].shape]
    if wrong:
        raise ValueError(f"{path} does not fit its config.json: tensor {wrong[0]!r} is missing, unknown or misshapen")
    if endless := [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]:
        raise ValueError(f"{path} must hold finite numbers, and {endless[0]!r} does not: its training went astray")
    module.load_state_dict(tensors)
