import inspect
from functools import partial

import pytest
import yaml

import lightning_rnnattn
from lightning_rnnattn.cli import main
from lightning_rnnattn.cli.parser import Parser
from lightning_rnnattn.modules import SequenceModule


@pytest.mark.parametrize(
    ("model", "name"), [("SequenceTagger", "rnn"), ("SequenceClassifier", "rnn"), ("Seq2Seq", "encoder")]
)
def test_a_default_with_options_takes_more_of_them_without_its_class(model, name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["fit", f"--model={model}", f"--model.{name}.hidden_size=8", "--print_config"])
    made = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"][name]
    assert made["class_path"] == "lightning_rnnattn.LSTM"
    assert (made["init_args"]["hidden_size"], made["init_args"]["bidirectional"]) == (8, True)


class Outer:
    def __init__(
        self,
        inner: lightning_rnnattn.layers.RNNFactory = partial(lightning_rnnattn.LSTM, hidden_size=7),  # noqa: B008
    ) -> None: ...


def test_at_any_depth():
    parser = Parser(exit_on_error=False)
    parser.add_subclass_arguments(Outer, "outer")
    chosen = parser.parse_args([f"--outer={__name__}.Outer", "--outer.inner.num_layers=2"]).outer.init_args.inner
    assert (chosen.init_args.hidden_size, chosen.init_args.num_layers) == (7, 2)


def test_only_modules_have_partials_as_defaults():
    """They record theirs. Of a class within them a checkpoint may have the name alone, and then options are lost."""
    public = {name: getattr(lightning_rnnattn, name) for name in lightning_rnnattn.__all__}
    classes = {
        name: cls
        for name, cls in public.items()
        if isinstance(cls, type) and not issubclass(cls, (SequenceModule, Exception))
    }
    found = [
        f"{name}.{parameter.name}"
        for name, cls in classes.items()
        for parameter in inspect.signature(cls).parameters.values()
        if isinstance(parameter.default, partial)
    ]
    assert len(classes) > 50
    assert not found
