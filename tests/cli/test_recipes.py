"""`lightning_rnnattn recipes`."""

from pathlib import Path

from lightning_rnnattn.cli import main
from lightning_rnnattn.cli.resources import find_shipped, shipped


def test_list_has_a_line_for_each(capsys):
    main(["recipes"])
    out = capsys.readouterr().out
    for name, _ in shipped():
        (line,) = (line for line in out.splitlines() if line.split()[:1] == [name])
        assert len(line.split()) > 3


def test_copy(workdir, capsys):
    main(["recipes", "copy", "quickstart", "mine"])
    assert (workdir / "mine" / "quickstart.yaml").read_text() == find_shipped("quickstart").read_text()
    assert "lightning_rnnattn fit --config mine/quickstart.yaml" in capsys.readouterr().out


def test_a_copy_has_its_parts_and_runs(workdir, fit):
    main(["recipes", "copy", "tinyshakespeare/lm", "mine"])
    copy = workdir / "mine" / "recipes" / "tinyshakespeare" / "lm.yaml"
    part = workdir / "mine" / "configs" / "data" / "tinyshakespeare.yaml"
    part.write_text(part.read_text().replace("batch_size: 32", "batch_size: 3"))
    fit(f"--config={copy}", "--model.rnn.hidden_size=8", "--trainer.callbacks=null", "--data.seq_len=4")
    saved = (workdir / "runs" / "tinyshakespeare" / "version_0" / "config.yaml").read_text()
    assert "batch_size: 3\n" in saved


def test_copy_of_a_whole_recipe(workdir, capsys):
    main(["recipes", "copy", "tinyshakespeare", "mine"])
    copies = {path.relative_to("mine").as_posix() for path in Path("mine").rglob("*") if path.suffix != ".png"}
    assert {"recipes/tinyshakespeare/lm.yaml", "recipes/tinyshakespeare/README.md"} <= copies
    assert "configs/data/tinyshakespeare.yaml" in copies
    *_, runs = capsys.readouterr().out.split("Run it with\n")
    assert runs == "  lightning_rnnattn fit --config mine/recipes/tinyshakespeare/lm.yaml\n"


def test_copy_of_a_recipe_has_the_pictures_of_its_readme(workdir, monkeypatch):
    recipe = workdir / "shipped" / "recipes" / "mine"
    recipe.mkdir(parents=True)
    (recipe / "lm.yaml").write_text("# A recipe.\n")
    (recipe / "README.md").write_text("![curves](curves.png)")
    (recipe / "curves.png").touch()
    (recipe / "other.png").touch()
    for module in ("recipes", "resources"):
        monkeypatch.setattr(f"lightning_rnnattn.cli.{module}.root", lambda: workdir / "shipped")
    main(["recipes", "copy", "mine", "copy"])
    assert {path.name for path in (workdir / "copy").iterdir()} == {"lm.yaml", "README.md", "curves.png"}


def test_copy_overwrites_nothing(workdir, fails):
    (workdir / "quickstart.yaml").write_text("mine")
    assert fails("recipes", "copy", "quickstart", ".").startswith("quickstart.yaml exists")
    assert (workdir / "quickstart.yaml").read_text() == "mine"


def test_mistakes(fails):
    assert fails("recipes", "copy", "benchmarks", "mine").startswith("no 'benchmarks' is shipped")  # it has no YAML
    assert "did you mean quickstart?" in fails("recipes", "copy", "quikstart", "mine")
    assert fails("recipes", "copy", "quickstart").startswith("give a name and a folder")
    assert fails("recipes", "--folder=x") == "no option --folder=x"
