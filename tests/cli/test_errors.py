"""Mistakes: each is one line that names the key and the nearest right name, with exit code 2."""

import shlex

import pytest

from lightning_rnnattn.cli import main
from lightning_rnnattn.cli.errors import nearest, user_error
from lightning_rnnattn.errors import UserError

RUN = "--model=LanguageModel --data=TinyShakespeare"
PLATEAU = "torch.optim.lr_scheduler.ReduceLROnPlateau, lightning.pytorch.cli.ReduceLROnPlateau"
MISTAKES = """\
--data=TinyShakespeare --model=LanguageModle
    model: no SequenceModule 'LanguageModle'; did you mean LanguageModel?
--model=LanguageModel --data=TinyShakespear
    data: no LightningDataModule 'TinyShakespear'; did you mean TinyShakespeare?
--data=TinyShakespeare --model=SequenceModule
    model: SequenceModule is abstract: name one of its subclasses
--data=TinyShakespeare --model=torch.nn.Linear
    model: torch.nn.Linear is no SequenceModule
--data=TinyShakespeare --model=mymods.Zyx
    model: no SequenceModule 'mymods.Zyx' (No module named 'mymods')
--model=LanguageModel
    --data is missing: give a class, or a --config that has one
--data=TinyShakespeare
    --model is missing: give a class, or a --config that has one
--data=TinyShakespeare --model.tie_weights=true
    --model is missing: give a class, or a --config that has one
--model=LanguageModel --data.train_files=x
    --data is missing: give a class, or a --config that has one
RUN --model.input.embeding_size=3
    no option model.input.embeding_size; did you mean embedding_size?
RUN --model.input.embedding_size=x
    model.input.embedding_size: expected int, not 'x'
RUN --model.rnn=LSTN
    model.rnn: no RNN 'LSTN'; did you mean LSTM?
RUN --model.rnn=torch.nn.Linear
    model.rnn: torch.nn.Linear is no RNN
RUN --model.attention=Attention --model.attention.score=AditiveScore
    model.attention.score: no AttentionScore 'AditiveScore'; did you mean AdditiveScore?
RUN --model.attention=Attention --model.attention.num_head=2
    no option model.attention.num_head; did you mean num_heads?
RUN --model.attention=Attention --model.attention.window=x
    model.attention.window: expected int, not 'x'
RUN --model.optimizer=Adm
    model.optimizer: no Optimizer 'Adm'; did you mean Adam?
RUN --model.optimizer=Adam --model.optimizer.learning=1
    no option model.optimizer.learning
RUN --model.optimizer=Adam --model.optimizer.lr=-1 --trainer.fast_dev_run=true --trainer.accelerator=cpu
    model.optimizer: Invalid learning rate: -1.0
RUN --model.lr_scheduler=ReduceLROnPlateau
    model.lr_scheduler: more than one class is called ReduceLROnPlateau: give one of {PLATEAU}
RUN --data.tokenizer=CharTokeniser
    data.tokenizer: no TokenizerSpec 'CharTokeniser'; did you mean CharTokenizer?
RUN --data.batchsize=3
    no option data.batchsize; did you mean batch_size?
RUN --trainer.max_step=3
    no option trainer.max_step; did you mean trainer.max_steps?
RUN --trainer.max_steps=x
    trainer.max_steps: expected int, not 'x'
RUN --trainr.max_steps=3
    no option trainr.max_steps; did you mean trainer.max_steps?
RUN --seed_everything=x
    seed_everything: expected bool or int, not 'x'
RUN --trainer.callbacks+=ModelCheckpont
    trainer.callbacks: no Callback 'ModelCheckpont'; did you mean ModelCheckpoint?
RUN --trainer.callbacks+=ModelCheckpoint --trainer.callbacks.moniter=x
    no option trainer.callbacks.moniter; did you mean monitor?
RUN --trainer.logger=TensorBordLogger
    trainer.logger: no Logger 'TensorBordLogger'; did you mean TensorBoardLogger?
RUN --import=nowhere
    --import nowhere: no such module in the working directory or installed
RUN --config=quikstart
    --config quikstart: no such file, and no 'quikstart' is shipped; did you mean quickstart?
RUN --config
    -c/--config: expected one argument
RUN --ckpt_path=nowhere.ckpt
    nowhere.ckpt: no such checkpoint file
RUN --ckpt_path=a --init_from=b
    --ckpt_path goes on with a run, --init_from starts a new one: give one of them
RUN --trainer.max_time=x
    `Timer(duration='x')` is not a valid duration. Expected a string in the format DD:HH:MM:SS.
RUN --trainer.accumulate_grad_batches=0
    trainer.accumulate_grad_batches is 0: it must be at least 1
RUN --model.rnn.dropout=2
    dropout=2.0 is not a probability in [0, 1)
--data=CMUStress --model=SequenceClassifier --model.rnn.hidden_size 8
    model.rnn: name the class, too: --model.rnn=LSTM --model.rnn.bidirectional=true --model.rnn.hidden_size=8
--config=quickstart_g2p --model.decoder.attention=null
    model.decoder.attention: null is taken from a --config file, but not from the command line
RUN --trainer.callbacks=EarlyStopping --trainer.callbacks.monitor=val_loss --trainer.callbacks.mode=down
    `mode` can be min, max, got down
--config=mnist/pixels.yaml
    there is no data for train: give data.folder
""".splitlines()  # what follows `fit`, and the error


@pytest.mark.parametrize(("flags", "line"), list(zip(MISTAKES[::2], MISTAKES[1::2], strict=True)))
def test_flags(fails, flags, line):
    assert fails("fit", *shlex.split(flags.replace("RUN", RUN))) == line.strip().replace("{PLATEAU}", PLATEAU)


YAML_MISTAKES = """\
modle: LanguageModel
    no option modle; did you mean model?
trainer: {max_stps: 3}
    no option trainer.max_stps; did you mean trainer.max_steps?
model: {class_path: LanguageModel, init_args: {dropuot: 0.5}}
    no option model.dropuot; did you mean dropout?
model: {class_path: LanguageModel, init_args: {attention: {class_path: Attention, init_args: {num_heds: 3}}}}
    no option model.attention.num_heds; did you mean num_heads?
model: {init_args: {dropout: 0.5}}
    model: which SequenceModule? give its class_path
model: ../parts/model.yaml
    model: no file '../parts/model.yaml'
trainer: {callbacks: [{class_path: LastCheckpoint, init_args: {dirpth: x}}]}
    no option trainer.callbacks.dirpth; did you mean dirpath?
model: {class_path: LanguageModel, init_args: {lr_scheduler: {class_path: WarmupCosine, ini_args: {num_steps: 9}}}}
    run.yaml: model.lr_scheduler.ini_args stands beside class_path: put it under init_args
model: {class_path: LanguageModel, rnn: LSTM, init_args: {dropout: 0.5}}
    run.yaml: model.rnn stands beside class_path: put it under init_args
trainer: {callbacks: [{class_path: LastCheckpoint, dirpath: x}]}
    run.yaml: trainer.callbacks[0].dirpath stands beside class_path: put it under init_args
model: {class_path: LanguageModel, init_args: {lr_scheduler: {class_path: lightning.pytorch.cli.ReduceLROnPlateau}}}
    model.lr_scheduler.monitor is missing
""".splitlines()


@pytest.mark.parametrize(("yaml", "line"), list(zip(YAML_MISTAKES[::2], YAML_MISTAKES[1::2], strict=True)))
def test_yaml(fails, workdir, yaml, line):
    (workdir / "run.yaml").write_text(yaml)
    assert fails("fit", "--config=run.yaml", "--data=TinyShakespeare") == line.strip()


def test_what_a_part_has_wrong_is_said_of_the_part(fails, workdir):
    (workdir / "parts").mkdir()
    (workdir / "parts" / "model.yaml").write_text(
        "{class_path: LanguageModel, init_args: {rnn: {class_path: GRU, x: 1}}}"
    )
    (workdir / "run.yaml").write_text("model: parts/model.yaml")
    line = fails("fit", "--config=run.yaml", "--data=TinyShakespeare")
    assert line == "parts/model.yaml: model.rnn.x stands beside class_path: put it under init_args"


def test_broken_yaml_names_the_file(fails, workdir):
    (workdir / "run.yaml").write_text("trainer: [")
    assert fails("fit", "--config=run.yaml").startswith("run.yaml: while parsing")


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_command_that_lacks_its_checkpoint(fails, command):
    ways = "give a class or a --ckpt_path, or a --config that has one"
    for flags in ("", "--data.predict_source=x", "--model=Seq2Seq --data.predict_source=x"):
        assert fails(command, *flags.split()) == f"--data is missing: {ways}"
    for flags in ("--data=PairDataModule --data.predict_source=x", "--data=PairDataModule --model.tie_weights=true"):
        assert fails(command, *flags.split()) == f"--model is missing: {ways}"
    line = fails(command, "--data=PairDataModule", "--model.search.beam_size=5")
    assert line == "model: which SequenceModule? give its class_path or a --ckpt_path"


def test_a_file_that_is_no_checkpoint(fails, workdir):
    (workdir / "notes.txt").write_text("hello")
    assert fails("test", "--ckpt_path=notes.txt").startswith("notes.txt: not a checkpoint")


def test_a_programming_error_keeps_its_traceback(workdir):
    (workdir / "broken.py").write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        main(["fit", "--import=broken"])


def test_user_error_is_found_inside_what_wraps_it():
    wrapped = ValueError("long story")
    wrapped.__cause__ = UserError("short")
    assert str(user_error(wrapped)) == "short"
    assert user_error(ValueError("a bug")) is None


def test_a_bug_in_the_handling_of_a_mistake_is_a_bug(monkeypatch):
    def run(args):
        try:
            raise UserError("a mistake")
        except UserError:
            return {}["a bug"]

    monkeypatch.setattr("lightning_rnnattn.cli._run", run)
    with pytest.raises(KeyError):
        main([])


def test_nearest():
    assert nearest("LSTN", ["LSTM", "GRU"]) == "; did you mean LSTM?"
    assert nearest("xyz", ["LSTM", "GRU"]) == ""


def test_a_model_that_does_not_say_where_it_looks(checkpoint, fails, workdir):
    (workdir / "x.txt").write_text("To be\n")
    line = fails("predict", f"--ckpt_path={checkpoint}", "--data.predict_files=x.txt", "--attention")
    assert line == (
        "--attention: predictions of LanguageModel have no weights; lightning_rnnattn inspect --ckpt_path ... shows"
        " where it looks"
    )
