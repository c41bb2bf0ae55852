"""`lightning_rnnattn ensemble`: make one model of several that were trained apart."""

from typing import Any

from lightning_rnnattn.cli.early import import_modules
from lightning_rnnattn.cli.loading import add_import_option
from lightning_rnnattn.cli.outputs import check_output, check_writable
from lightning_rnnattn.cli.plain import PlainParser
from lightning_rnnattn.errors import UserError


def make_parser() -> PlainParser:
    """Makes the parser of the options."""
    parser = PlainParser(
        "ensemble",
        "Write a checkpoint of one model that gives each token the mean of several models' probabilities: "
        "sequence-to-sequence models with the same vocabularies, trained with other seeds, say. Test it, predict and "
        "translate with it as with any other; search, metrics and data are those of the first, until told otherwise.",
    )
    parser.add_argument(
        "--ckpt_path", nargs="+", action="extend", required=True, metavar="FILE", help="the checkpoints of the models"
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="the checkpoint to write")
    add_import_option(parser)
    return parser


def run(command: str, args: list[str]) -> None:
    """Writes the checkpoint and names it.

    Raises:
        UserError: for checkpoints that cannot be read, or whose models cannot write together.
    """
    options = make_parser().parse_args(args)
    check_output("output", options.output, [("ckpt_path", options.ckpt_path)])
    import_modules(options.modules)

    from pathlib import Path

    import torch

    from lightning_rnnattn.callbacks.run import replacing
    from lightning_rnnattn.modules import Ensemble, Seq2SeqModule, load, read_checkpoint

    members: list[Seq2SeqModule] = []
    for path in options.ckpt_path:
        member = load(path)
        if not isinstance(member, Seq2SeqModule) or isinstance(member, Ensemble):
            raise UserError(
                f"--ckpt_path {path}: {type(member).__name__} cannot be a member of an ensemble, Seq2Seq can"
            )
        members.append(member)
        for name in member.vocabularies:
            what = name.replace("_", " ")
            if getattr(member, name) is None:
                raise UserError(f"--ckpt_path {path}: has no {what}: it was saved before a trainer had it")
            if getattr(member, name) != getattr(members[0], name):
                raise UserError(f"--ckpt_path {path}: its {what} is not that of {options.ckpt_path[0]}")
    check_writable("output", options.output)
    first = read_checkpoint(options.ckpt_path[0])
    with replacing(Path(options.output).resolve()) as file:
        torch.save(_checkpoint(Ensemble(members), first), file)
    print(options.output)


def _checkpoint(ensemble: Any, first: dict[str, Any]) -> dict[str, Any]:
    """What `lightning_rnnattn.modules.read_checkpoint` gives for it.

    Args:
        ensemble: the model.
        first: the checkpoint of its first member, whose data it takes; search and metrics are that member's, too.
    """
    own = ensemble.members[0].hparams
    settings = {name: own[name] for name in ("search", "text_metrics") if name in own}
    kept = ("datamodule_hyper_parameters", "vocabularies", "pytorch-lightning_version", "epoch", "global_step")
    return {
        "state_dict": ensemble.state_dict(),
        "hyper_parameters": {**ensemble.hparams, **settings},
        **{key: first[key] for key in kept if key in first},
    }
