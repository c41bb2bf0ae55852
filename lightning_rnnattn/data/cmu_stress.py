"""Which syllable of a word is stressed, from its spelling."""

import functools
import re
import zlib
from collections.abc import Iterator
from importlib.resources import files

from lightning_rnnattn.data.classified import ClassifiedDataModule
from lightning_rnnattn.data.examples import Split
from lightning_rnnattn.data.files import find_files
from lightning_rnnattn.data.lines import whole_lines
from lightning_rnnattn.data.tables import Row, Table
from lightning_rnnattn.tokenizers import CharTokenizer, TokenizerSpec

_STEM = 6  # letters
_PARTS = {"val": range(5), "test": range(5, 10), "train": range(10, 100)}  # of a hundred


class StressTable(Table):
    """The words of a part of CMUdict with 2 to 4 syllables, and their stress.

    Of several pronunciations the first is taken. Words with other characters than letters, and those without exactly
    one primary stress, are left out. Words that begin with the same six letters are in the same part, so that none has
    inflected forms of another's words.

    Args:
        split: the part: train (90 %), val or test (5 % each).
    """

    def __init__(self, split: Split) -> None:
        self._hundredths = _PARTS[split]
        self.name = f"CMUdict[{split}]"

    def fingerprint(self) -> str:
        """The part: the file is that of the package."""
        return self.name

    def rows(self) -> Iterator[Row]:
        """The words, in their order."""
        for number, word, stress in _stressed_words():
            if zlib.crc32(word[:_STEM].encode()) % 100 in self._hundredths:
                yield Row({"text": word, "label": stress}, self.name, number)


@functools.cache
def _stressed_words() -> list[tuple[int, str, str]]:
    """The line of each word, the word and its stress."""
    [path] = find_files(str(files("lightning_rnnattn.data") / "samples" / "cmudict.dict.gz"), "CMUdict")
    found = []
    for line in whole_lines(path):
        word, *phones = line.text.partition(" #")[0].split()
        stress = "".join("01"[phone.endswith("1")] for phone in phones if phone[-1].isdigit())
        if 2 <= len(stress) <= 4 and stress.count("1") == 1 and re.fullmatch("[a-z]+", word):
            found.append((line.number, word, stress))
    return found


class CMUStress(ClassifiedDataModule):
    """English words and their stress, which come with the package: *attention* is ``010``.

    A label has a 1 for the syllable with the primary stress and a 0 for each other. There are 97,209 words of 2 to 4
    syllables from the CMU Pronouncing Dictionary (Carnegie Mellon University; its notice is in the package), and nine
    labels. Endings say much: the syllable before ``-tion`` and ``-ic`` has the stress, of ``-ity`` the one before.

    Args:
        predict_files: words of your own, one on each line.
        tokenizer: how to make the vocabulary of letters.
        batch_size: the most words in a batch of one process.
        eval_batch_size: the same in validation, test and prediction; null is ``batch_size``.
        seed: what the order of the batches is drawn from, with the number of the epoch.
    """

    def __init__(
        self,
        predict_files: str | list[str] | None = None,
        *,
        tokenizer: TokenizerSpec = CharTokenizer(unk=True),  # noqa: B008  (frozen)
        batch_size: int = 128,
        eval_batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            predict_files=predict_files,
            tokenizer=tokenizer,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
        )

    def learn_labels(self) -> tuple[str, ...]:
        """The patterns, by the number of syllables and the place of the stress."""
        return tuple(sorted(super().learn_labels(), key=lambda label: (len(label), label.index("1"))))

    def table(self, split: Split) -> Table | None:
        """See `ClassifiedDataModule.table`."""
        return super().table(split) if split == "predict" else StressTable(split)
