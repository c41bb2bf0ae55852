"""Other libraries' own models, where they are installed, with the sizes and weights of one of ours.

Both compute one function then, so that losses and texts can be compared, and not only times. What each library does
more, or less, than ours is said in its class. Letters: B batch, S source time, T target time, V vocabulary.
"""

from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from lightning_rnnattn import Seq2Seq
from lightning_rnnattn.ops.masks import lengths_mask

JOEYNMT, YOYODYNE = (find_spec(name) is not None for name in ("joeynmt", "yoyodyne"))
BOS, EOS = 2, 3  # in both
LIKELY = 1e4  # a logit


class JoeyNMT:
    r"""JoeyNMT's recurrent model with its Bahdanau attention and input feeding.

    .. math::
        s_t = \mathrm{LSTM}([E y_{t-1}; \tilde s_{t-1}], s_{t-1}), \quad
        e_{tj} = v^\top \tanh(W s_t + U h_j), \quad
        \tilde s_t = \tanh(W_c [s_t; c_t]), \quad
        p(y_t) = \mathrm{softmax}(W_o \tilde s_t)

    That is our `InputFeedingDecoder` with `AdditiveScore` after a `ZeroBridge`. Two biases of ours it does not have: b
    in the score, and that of the output; both must be 0. One of its own, beside W_c, is set to 0. Texts never contain
    padding (1) or what begins them (2).

    In training it also counts the tokens that it got right. Decoding, it projects the keys at each token anew, once for
    each hypothesis; in a beam search finished sentences leave the batch, in a greedy one they stay.

    Args:
        ours: one LSTM layer on either side.
    """

    def __init__(self, ours: Seq2Seq) -> None:
        from joeynmt.model import build_model
        from joeynmt.vocabulary import Vocabulary

        names = SimpleNamespace(unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>", sep_token=None)
        ids = SimpleNamespace(**vars(names), lang_tags=[], unk_id=0, pad_id=1, bos_id=BOS, eos_id=EOS)
        source, target = (
            Vocabulary([f"token {i}" for i in range(4, embedding.num_embeddings)], ids)
            for embedding in (ours.source_embedding, ours.target_embedding)
        )
        encoder, cell = ours.encoder.kernels[0], ours.decoder.rnn.kernels[0]
        score, combine = ours.decoder.attention.score, ours.decoder.combine.proj.weight
        both = {
            "type": "recurrent",
            "rnn_type": "lstm",
            "num_layers": 1,
            "embeddings": {"embedding_dim": ours.source_embedding.embedding_dim},
        }
        own = {"attention": "bahdanau", "input_feeding": True, "init_hidden": "zero"}
        config = {
            "encoder": {**both, "hidden_size": encoder.hidden_size, "bidirectional": True},
            "decoder": {**both, **own, "hidden_size": cell.hidden_size},
        }
        self.model = build_model(config, source, target)
        self.model.load_state_dict(
            {
                "src_embed.lut.weight": ours.source_embedding.weight,
                "trg_embed.lut.weight": ours.target_embedding.weight,
                **_under("encoder.rnn", encoder),
                **_under("decoder.rnn", cell),
                "decoder.attention.key_layer.weight": score.key_proj.weight,
                "decoder.attention.query_layer.weight": score.query_proj.weight,
                "decoder.attention.energy_layer.weight": score.v,
                "decoder.att_vector_layer.weight": combine.roll(cell.hidden_size, 1),  # [c; s] to [s; c]
                "decoder.att_vector_layer.bias": torch.zeros(cell.hidden_size),
                "decoder.output_layer.weight": ours.output.weight,
            }
        )
        self.model.loss_function = ("crossentropy", 0.0)
        self.model.to(ours.device).register_forward_hook(self._end, with_kwargs=True)
        self._step = 0

    def loss(self, source: Tensor, lengths: Tensor, inputs: Tensor, target: Tensor) -> Tensor:
        """Its own loss, summed over targets (B, T) without padding; ``lengths`` must fall."""
        loss, *_ = self.model.train()(
            return_type="loss",
            src=source,
            src_length=lengths,
            src_mask=lengths_mask(lengths, source.shape[1]).to(source.device).unsqueeze(1),
            trg_input=inputs,
            trg=target,
            trg_mask=torch.ones_like(target, dtype=torch.bool).unsqueeze(1),
        )
        return loss

    def search(self, source: Tensor, lengths: Tensor, ends: Tensor, beam_size: int) -> Tensor:
        """Its own beam search, or its greedy one for 1: the best texts (B, T) and their ends; ``lengths`` must fall.

        Each text ends after ``ends`` (B,) tokens.
        """
        from joeynmt.batch import Batch
        from joeynmt.search import search

        batch = Batch(
            src=source,
            src_length=lengths,
            src_prompt_mask=None,
            trg=None,
            trg_prompt_mask=None,
            indices=torch.arange(len(source)),
            device=source.device,
            pad_index=1,
            eos_index=EOS,
            is_train=False,
        )
        # It attends to what is above 0. How far above goes where its sentence goes, and tells `_end` when.
        batch.src_mask = (lengths_mask(lengths, source.shape[1]).to(ends.device) * (1 + ends[:, None])).unsqueeze(1)
        found, *_ = search(self.model.eval(), batch, int(ends.max()) + 1, beam_size, beam_alpha=0.0)
        return torch.from_numpy(found)

    def _end(self, model: nn.Module, args: tuple[()], options: dict[str, Any], output: tuple[Any, ...]) -> None:
        if options["return_type"] == "decode":
            self._step = 0 if options["att_vector"] is None else self._step + 1
            ends = options["src_mask"].amax((1, 2)) - 1
            output[0][..., EOS] = torch.where(self._step >= ends, LIKELY, -LIKELY).unsqueeze(-1)


class Yoyodyne:
    r"""Yoyodyne's LSTM with soft attention.

    .. math::
        e_{tj} = v^\top \tanh(M [h_j; s_{t-1}] + b) + a, \quad
        s_t = \mathrm{LSTM}([E y_{t-1}; c_t], s_{t-1}), \quad
        p(y_t) = \mathrm{softmax}(W_o s_t + b_o)

    That is our `BahdanauDecoder` with `AdditiveScore` after a `ZeroBridge`, one embedding for both sides, and an output
    layer that reads the state alone. Its first state, which is learnt, is set to 0; a has no effect.

    The products with M are those of each pair of position and token, and the output layer runs token by token. In its
    beam search every continuation is an object, V for each hypothesis; finished hypotheses leave the batch.

    Args:
        ours: one LSTM layer on either side.
    """

    def __init__(self, ours: Seq2Seq) -> None:
        from yoyodyne.models import SoftAttentionLSTMModel
        from yoyodyne.models.modules import LSTMEncoder

        encoder, cell = ours.encoder.kernels[0], ours.decoder.rnn.kernels[0]
        score, embedding = ours.decoder.attention.score, ours.source_embedding
        vocab_size, embedding_size = embedding.weight.shape
        self.model = SoftAttentionLSTMModel(
            source_encoder=LSTMEncoder(
                hidden_size=encoder.hidden_size, embedding_size=embedding_size, dropout=0.0, bidirectional=True
            ),
            decoder_hidden_size=cell.hidden_size,
            decoder_dropout=0.0,
            embedding_size=embedding_size,
            vocab_size=vocab_size,
            target_vocab_size=vocab_size,
        )
        self.model.load_state_dict(
            {
                "embeddings.weight": embedding.weight,
                **_under("source_encoder.module", encoder),
                **_under("decoder.module", cell),
                "decoder.h0": torch.zeros(cell.hidden_size),
                "decoder.c0": torch.zeros(cell.hidden_size),
                "decoder.attention.M.weight": torch.cat([score.key_proj.weight, score.query_proj.weight], 1),
                "decoder.attention.M.bias": score.query_proj.bias,
                "decoder.attention.V.weight": score.v,
                "decoder.attention.V.bias": torch.zeros(1),
                **_under("classifier", ours.output),
            }
        )
        self.model.to(ours.device)
        self._decode_step, self.model.decode_step = self.model.decode_step, self._ending_step
        self._step = 0

    def loss(self, source: Tensor, target: Tensor) -> Tensor:
        """Its own loss, the mean over targets (B, T) without padding; sources (B, S) are padded with 0."""
        self.model.beam_width = 1
        return self.model.loss_func(self.model.train()(_batch(source, target)), target)

    @torch.inference_mode()
    def search(self, source: Tensor, beam_size: int) -> Tensor:
        """Its own beam search: the best texts (B, T) and their ends, each as long as its source."""
        self.model.beam_width, self._step = beam_size, 0
        found, _ = self.model.eval()(_batch(source))
        return found[:, 0, 1:]

    def _ending_step(self, symbol: Tensor, context: Tensor, mask: Tensor, state: nn.Module) -> tuple[Tensor, nn.Module]:
        logits, state = self._decode_step(symbol, context, mask, state)
        if not self.model.training:
            ended = self._step >= (~mask).sum(1)  # what counts as a source's length
            logits[..., EOS] = torch.where(ended, LIKELY, -LIKELY).unsqueeze(-1)
            self._step += 1
        return logits, state


def _batch(source: Tensor, target: Tensor | None = None) -> nn.Module:
    from yoyodyne.data.batches import Batch, PaddedTensor

    return Batch(PaddedTensor.from_tensor(source), target=None if target is None else PaddedTensor.from_tensor(target))


def _under(name: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{name}.{key}": weight for key, weight in module.state_dict().items()}
