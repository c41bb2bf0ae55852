"""What a checkpoint of a module knows beside its weights."""

from collections.abc import Mapping
from typing import Any, ClassVar

import lightning.pytorch as L
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.modules.rng import collect_rng, set_rng
from lightning_rnnattn.recording import Recorded
from lightning_rnnattn.spec import recorded
from lightning_rnnattn.tokenizers import Tokenizer

Vocabulary = Tokenizer | tuple[str, ...]
"""What ids mean: a tokenizer, or the names of labels."""


class CheckpointedModule(Recorded, L.LightningModule):
    """A module whose checkpoints say what it was made from, what its ids mean, and what each process carried.

    ``__init__`` of a subclass may take plain data, classes and ``functools.partial`` of classes, and hand to its parent
    what it likes: its own arguments are recorded as plain data, from Python and the command line alike, and
    `lightning_rnnattn.load` makes the module again from them.

    Attributes:
        vocabularies: names of attributes that say what ids mean. Each is taken from the data module's attribute of that
            name, travels in the checkpoint, and is None until it is known.
    """

    vocabularies: ClassVar[tuple[str, ...]] = ("tokenizer",)
    tokenizer: Tokenizer | None

    def __init__(self) -> None:
        super().__init__()
        for name in self.vocabularies:
            setattr(self, name, None)
        self._ranks: list[dict[str, Any]] = []
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        """Takes the data module's vocabularies, which then travel in the checkpoint.

        Raises:
            UserError: if the module came with another vocabulary than the data's.
        """
        self._ranks = []  # of a checkpoint that was merely loaded; one that is resumed is read after this
        self.take_vocabularies_of(getattr(self.trainer, "datamodule", None))

    def take_vocabularies_of(self, data: Any) -> None:
        """Takes what a data module, or None, knows of `vocabularies`; see `take_vocabularies`."""
        self.take_vocabularies({name: getattr(data, name, None) for name in self.vocabularies})

    def take_vocabularies(self, vocabularies: Mapping[str, Vocabulary | None]) -> None:
        """Takes what is known of `vocabularies`, by name.

        Raises:
            UserError: if the module has another already, or is too small for it.
        """
        for name in self.vocabularies:
            new, own = vocabularies.get(name), getattr(self, name)
            if new is None:
                continue
            if own is not None and own != new:
                what = name.replace("_", " ")
                raise UserError(
                    f"the data's {what} {'are' if what.endswith('s') else 'is'} not what this model was trained with: "
                    f"set datamodule.{name} = model.{name} before the trainer starts"
                )
            size = new.vocab_size if isinstance(new, Tokenizer) else len(new)
            if size > (most := self.num_ids().get(name, size)):
                raise UserError(
                    f"the data's {name.replace('_', ' ')} knows {size} ids, and the model was made for {most}"
                )
            setattr(self, name, new)

    def num_ids(self) -> dict[str, int]:
        """How many ids the module was made for, by the name of their vocabulary; what it leaves out is not checked."""
        return {}

    def to_spec(self) -> dict[str, Any]:
        """What the module was made from, as YAML has it, so that it can be an argument of another (`Ensemble`)."""
        made = recorded(self.hparams)
        assert made is not None
        return made

    def rank_state(self) -> dict[str, Any]:
        """What this process alone knows and a resumed run needs: nested tuples and dicts of tensors, or None.

        Override it, and `restore_rank_state`, where training carries more than weights from batch to batch.
        """
        return {"rng": collect_rng()}

    def restore_rank_state(self, state: dict[str, Any]) -> None:
        """Takes up `rank_state` where a run is resumed, just before its next batch."""
        set_rng(state["rng"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts the vocabularies into the checkpoint, and the `rank_state` of every rank."""
        checkpoint["vocabularies"] = {
            name: vocabulary.to_str() if isinstance(vocabulary, Tokenizer) else list(vocabulary)
            for name in self.vocabularies
            if (vocabulary := getattr(self, name)) is not None
        }
        own = self.rank_state()
        ranks = [own]
        if self.trainer.world_size > 1:
            everyone = self.all_gather(own)
            ranks = [
                apply_to_collection(everyone, Tensor, lambda x, rank=rank: x[rank].clone())
                for rank in range(self.trainer.world_size)
            ]
        checkpoint["ranks"] = ranks

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the vocabularies out of the checkpoint, and keeps the rank states until training goes on."""
        self.take_vocabularies(saved_vocabularies(checkpoint))
        self._ranks = checkpoint.get("ranks", [])

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Takes up the rank state of the checkpoint that the run is resumed from."""
        if len(self._ranks) == self.trainer.world_size:
            self.restore_rank_state(self._ranks[self.global_rank])
        self._ranks = []


def saved_vocabularies(checkpoint: Mapping[str, Any]) -> dict[str, Vocabulary]:
    """The vocabularies in a checkpoint, by the name of the attribute that they were."""
    return {
        name: Tokenizer.from_str(saved) if isinstance(saved, str) else tuple(map(str, saved))
        for name, saved in checkpoint.get("vocabularies", {}).items()
    }
