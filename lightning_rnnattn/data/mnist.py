"""MNIST, and data sets in its form, as sequences."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from lightning_rnnattn.data.examples import ExampleDataModule, Split
from lightning_rnnattn.data.files import find_files
from lightning_rnnattn.data.idx import read_idx
from lightning_rnnattn.data.images import ImageExamples, ImageView, Rows
from lightning_rnnattn.data.label_sets import LabelIds, learnt_labels
from lightning_rnnattn.errors import UserError

_PREFIXES = {"train": "train", "test": "t10k"}


class _Files(NamedTuple):
    images: Path
    labels: Path | None


class MNIST(ExampleDataModule):
    """Pictures of digits (LeCun et al. 1998), or of other things in the same files: Fashion-MNIST, KMNIST.

    The folder has ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
    ``t10k-labels-idx1-ubyte``, each plain or with ``.gz``. Validation images are drawn from those of training.

    Args:
        folder: where the files are.
        predict_images: an IDX file of images to predict.
        view: how an image becomes a sequence: `Rows` or `Pixels`.
        mean: what is subtracted from pixels in [0, 1]; by default, the mean of MNIST's training images.
        std: what they are then divided by; by default, likewise, their standard deviation.
        val_fraction: see `ExampleDataModule`; by default 5,000 of MNIST's 60,000.
        split_seed: see `ExampleDataModule`.
        batch_size: see `ExampleDataModule`.
        eval_batch_size: see `ExampleDataModule`.
        seed: see `ExampleDataModule`.

    Raises:
        UserError: if an argument is out of range.
    """

    ways = {  # noqa: RUF012  (the base says that it is a ClassVar)
        "train": "data.folder",
        "val": "data.val_fraction",
        "test": "data.folder",
        "predict": "data.predict_images",
    }
    tokenizer = None

    def __init__(
        self,
        folder: str | None = None,
        predict_images: str | None = None,
        *,
        view: ImageView = Rows(),  # noqa: B008  (frozen)
        mean: float = 0.1307,
        std: float = 0.3081,
        val_fraction: float = 1 / 12,
        split_seed: int = 0,
        batch_size: int = 100,
        eval_batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            val_fraction=val_fraction,
            split_seed=split_seed,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
        )
        if std <= 0:
            raise UserError(f"data.std is {std}: it must be above 0")
        self.folder, self.predict_images = folder, predict_images
        self.view, self.mean, self.std = view, mean, std
        self._labels: tuple[str, ...] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the training images, in their order."""
        if self._labels is None:
            self.require("train")
            _, path = self._files("train")
            assert path is not None
            self._labels = learnt_labels(map(str, np.unique(read_idx(path, 1))), str(path))
        return self._labels

    @labels.setter
    def labels(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self._examples.clear()

    @property
    def num_labels(self) -> int:
        """The number of labels."""
        return len(self.labels)

    @property
    def input_size(self) -> int:
        """Features of a step."""
        examples = self.examples("predict" if self.folder is None and self.predict_images else "train")
        assert isinstance(examples, ImageExamples)
        return examples.input_size

    def has(self, split: Split) -> bool:
        """See `ExampleDataModule.has`."""
        if split == "predict":
            return self.predict_images is not None and bool(self._files(split))
        return split in _PREFIXES and self.folder is not None and bool(self._files(split))

    def encode(self, split: Split) -> ImageExamples:
        """See `ExampleDataModule.encode`."""
        files = self._files("train" if split == "val" else split)
        images, labels = read_idx(files.images, 3), None
        chosen = self.part(split, len(images), str(files.images))
        if files.labels is not None:
            found = read_idx(files.labels, 1)
            if len(found) != len(images):
                raise UserError(f"{files.images} has {len(images)} images, and {files.labels} has {len(found)} labels")
            labels = torch.from_numpy(self._label_ids(found, files.labels)[chosen])
        return ImageExamples(torch.from_numpy(images[chosen]), labels, self.view, self.mean, self.std)

    def _label_ids(self, found: npt.NDArray[np.uint8], path: Path) -> npt.NDArray[np.int64]:
        known, ids = LabelIds(self.labels), np.zeros(256, dtype=np.int64)
        for label in np.unique(found):
            ids[label] = known(str(label), f"{path}: number {int(np.argmax(found == label)) + 1}")
        return ids[found]

    def _files(self, split: Split) -> _Files:
        if split == "predict":
            return _Files(find_files(self.predict_images or [], "data.predict_images")[0], None)
        return _Files(self._find(split, "images-idx3-ubyte"), self._find(split, "labels-idx1-ubyte"))

    def _find(self, split: Split, kind: str) -> Path:
        path = Path(self.folder or "").expanduser() / f"{_PREFIXES[split]}-{kind}"
        for candidate in (path, path.with_name(path.name + ".gz")):
            if candidate.is_file():
                return candidate
        raise UserError(f"data.folder: there is no {path.name}, plain or with .gz, in {path.parent}")
