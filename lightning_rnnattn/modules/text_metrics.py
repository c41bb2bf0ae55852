"""Metrics of text that a model writes; torchmetrics adds them up over batches and ranks.

All are percentages, as the literature gives them, and are updated with the texts and what each might have been.
"""

import functools
from abc import abstractmethod
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torchmetrics import Metric

from lightning_rnnattn.errors import UserError

Texts = Sequence[str]
References = Sequence[Sequence[str]]
"""For each text those that are right, at least one."""


class TextMetric(Metric):
    """Base of metrics that compare texts with references.

    A subclass has sums as its states, so that it is the same whatever the batches and ranks.

    Attributes:
        name: under which it is logged, behind the stage; other options that change the figure have another.
    """

    name: str
    full_state_update = False

    @abstractmethod
    def update(self, predictions: Texts, references: References) -> None:
        """Adds some texts."""


class _SacreMetric(TextMetric):
    """A metric of sacrebleu (Post 2018), whose counts are added up: the score is to the last digit what it prints.

    torchmetrics' own BLEU does not smooth as sacrebleu does and takes other lengths of several references; its chrF
    differs in the fourth digit.
    """

    statistics: Tensor
    higher_is_better = True

    def __init__(self, metric: Any, count: int) -> None:
        super().__init__()
        self._metric = metric
        self._num_references: set[int] = set()
        self.add_state("statistics", torch.zeros(count, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predictions: Texts, references: References) -> None:
        """Adds some texts."""
        if predictions:
            counts = self._metric._extract_corpus_statistics(list(predictions), list(zip_longest(*references)))
            self.statistics += torch.tensor(counts, device=self.device).sum(0)
            self._num_references.update(map(len, references))

    def compute(self) -> Tensor:
        """The score so far; sacrebleu's signature, which says how it was computed, is logged once."""
        if self._num_references:
            # sacrebleu knows those of the last batch only; it writes "var" for -1.
            self._metric.num_refs = -1 if len(self._num_references) > 1 else max(self._num_references)
            _announce(f"{type(self).__name__}: {self._metric.get_signature()}")
        score = self._metric._compute_score_from_stats(self.statistics.tolist()).score
        return torch.tensor(score, device=self.device)

    def reset(self) -> None:
        """Forgets all texts."""
        super().reset()
        self._num_references.clear()


class BLEU(_SacreMetric):
    """BLEU of the corpus (Papineni et al. 2002), by sacrebleu.

    It is logged as ``bleu``, or ``bleu_lc`` where case does not count; other tokenizers add their name.

    Args:
        lowercase: whether case does not count.
        tokenize: sacrebleu's name for how texts are split, "13a" being that of WMT.

    Raises:
        UserError: if sacrebleu has no such way.

    Example:
        >>> metric = BLEU()
        >>> metric.update(["The dog bit the man."], [["The dog bit the man.", "The dog had bit the man."]])
        >>> round(metric.compute().item(), 2)
        100.0
    """

    def __init__(self, lowercase: bool = False, tokenize: str = "13a") -> None:
        from sacrebleu.metrics import bleu  # slow to import, and few need it

        if tokenize not in bleu.BLEU.TOKENIZERS:
            raise UserError(f"BLEU: tokenize={tokenize!r} is none of sacrebleu's: {', '.join(bleu.BLEU.TOKENIZERS)}")
        try:
            metric = bleu.BLEU(lowercase=lowercase, tokenize=tokenize, force=True)
        except (ImportError, RuntimeError) as error:  # a package that it needs
            raise UserError(f"BLEU: tokenize={tokenize!r}: {' '.join(str(error).split())}") from error
        super().__init__(metric, 2 + 2 * metric.max_ngram_order)
        self.name = "bleu" + (f"_{tokenize}" if tokenize != "13a" else "") + "_lc" * lowercase


class ChrF(_SacreMetric):
    """chrF2 (Popović 2015): the F score of character n-grams, by sacrebleu.

    It is logged as ``chrf``, or ``chrf_lc`` where case does not count; with words as ``chrf_w2``, say.

    Args:
        lowercase: whether case does not count.
        word_order: the longest n-grams of words that count, too; 2 is chrF++.
    """

    def __init__(self, lowercase: bool = False, word_order: int = 0) -> None:
        from sacrebleu.metrics import chrf

        metric = chrf.CHRF(lowercase=lowercase, word_order=word_order)
        super().__init__(metric, 3 * metric.order)
        self.name = "chrf" + (f"_w{word_order}" if word_order else "") + "_lc" * lowercase


class _Share(TextMetric):
    """Some count as a share of another."""

    part: Tensor
    whole: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("part", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("whole", torch.tensor(0), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """The percentage so far; not a number before the first text."""
        return 100 * self.part / self.whole


class ExactMatch(_Share):
    """Share of texts that are one of their references, white space being of no account.

    Example:
        >>> metric = ExactMatch()
        >>> metric.update(["K AE T", "D AO G"], [["K AE T"], ["D AA G", "D AO G Z"]])
        >>> metric.compute()
        tensor(50.)
    """

    name = "exact_match"
    higher_is_better = True

    def update(self, predictions: Texts, references: References) -> None:
        """Adds some texts."""
        self.part += _matches(predictions, references)
        self.whole += len(predictions)


class WordErrorRate(_Share):
    """Share of words whose phonemes are none of their references: what papers on letters to phonemes call WER."""

    name = "wer"
    higher_is_better = False

    def update(self, predictions: Texts, references: References) -> None:
        """Adds some texts, each the phonemes of a word."""
        self.part += len(predictions) - _matches(predictions, references)
        self.whole += len(predictions)


class PhoneErrorRate(_Share):
    r"""Share of phonemes that are wrong, by the edit distance to the closest reference: PER.

    .. math::
        100 \cdot \sum_n d_n / \sum_n |r_n|, \qquad
        r_n \text{ the reference with the least distance } d_n \text{, of equals the first}

    Phonemes are what white space separates.

    Example:
        >>> metric = PhoneErrorRate()
        >>> metric.update(["K AE", "D AO G"], [["K AE T"], ["D AA G Z", "D AO G"]])
        >>> metric.compute()  # one of six
        tensor(16.6667)
    """

    name = "per"
    higher_is_better = False

    def update(self, predictions: Texts, references: References) -> None:
        """Adds some texts."""
        for prediction, right in zip(predictions, references, strict=True):
            phonemes = prediction.split()
            distance, length = min(
                ((_edit_distance(phonemes, reference.split()), len(reference.split())) for reference in right),
                key=lambda pair: pair[0],
            )
            self.part += distance
            self.whole += length


def _matches(predictions: Texts, references: References) -> int:
    pairs = zip(predictions, references, strict=True)
    return sum(text.split() in [reference.split() for reference in right] for text, right in pairs)


def _edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """The fewest insertions, deletions and replacements that turn one into the other (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


@functools.cache
def _announce(signature: str) -> None:
    """Logs a signature, once in a process."""
    rank_zero_info(signature)
