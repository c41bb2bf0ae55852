"""Data modules and the batches they give."""

from lightning_rnnattn.data.documents import Document, DocumentBatches
from lightning_rnnattn.data.shakespeare import TinyShakespeare
from lightning_rnnattn.data.text import TextDataModule
from lightning_rnnattn.data.tokens import TokenBatch, TokenBatches

__all__ = ["Document", "DocumentBatches", "TextDataModule", "TinyShakespeare", "TokenBatch", "TokenBatches"]
