"""Data modules and the batches they give."""

from lightning_rnnattn.data.bucketing import LengthBatches
from lightning_rnnattn.data.class_batch import ClassBatch, ClassExamples
from lightning_rnnattn.data.classified import ClassifiedDataModule
from lightning_rnnattn.data.cmu_stress import CMUStress
from lightning_rnnattn.data.cmudict import CMUDict
from lightning_rnnattn.data.columns import Columns, CoNLLU, WordLines
from lightning_rnnattn.data.documents import Document, DocumentBatches
from lightning_rnnattn.data.images import ImageView, Pixels, Rows
from lightning_rnnattn.data.mnist import MNIST
from lightning_rnnattn.data.padded import Padded
from lightning_rnnattn.data.pair_batch import PairBatch, PairText
from lightning_rnnattn.data.pair_tables import PairTableDataModule
from lightning_rnnattn.data.pairs import PairDataModule
from lightning_rnnattn.data.recorded import RecordedDataModule
from lightning_rnnattn.data.shakespeare import TinyShakespeare
from lightning_rnnattn.data.tag_batch import TagBatch
from lightning_rnnattn.data.tagged import TaggedDataModule
from lightning_rnnattn.data.text import TextDataModule
from lightning_rnnattn.data.tokens import TokenBatch, TokenBatches

__all__ = [
    "MNIST",
    "CMUDict",
    "CMUStress",
    "ClassBatch",
    "ClassExamples",
    "ClassifiedDataModule",
    "CoNLLU",
    "Columns",
    "Document",
    "DocumentBatches",
    "ImageView",
    "LengthBatches",
    "Padded",
    "PairBatch",
    "PairDataModule",
    "PairTableDataModule",
    "PairText",
    "Pixels",
    "RecordedDataModule",
    "Rows",
    "TagBatch",
    "TaggedDataModule",
    "TextDataModule",
    "TinyShakespeare",
    "TokenBatch",
    "TokenBatches",
    "WordLines",
]
