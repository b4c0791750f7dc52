"""--compilation_cache: where the commands keep compiled programs."""

import json

import jax
import pytest
from absl import flags
from absl.testing import flagsaver

from herjax.commands import cli
from herjax.runtime import program_cache
from tests.command_line import contents, run, run_quickly

FLAGS = flags.FLAGS


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The user's cache folder; no other is set."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setattr(program_cache, "_folder", None)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path / "xdg" / "herjax"
    jax.config.update("jax_compilation_cache_dir", before)


def kept_in(*arguments):
    """The folder that a command with these arguments keeps programs in."""
    with flagsaver.flagsaver():
        FLAGS(["her_adapt", *arguments])
        cli.keep_programs()
    return program_cache._folder_now()


def test_by_default_it_is_the_users(home, capsys):
    assert kept_in() == home
    assert home.stat().st_mode & 0o777 == 0o700
    assert capsys.readouterr().err == ""
    assert jax.config.jax_compilation_cache_dir is None  # its files have no checksums


def test_another_folder_or_none_may_be_asked_for(home, tmp_path):
    assert kept_in(f"--compilation_cache={tmp_path}/mine") == tmp_path / "mine"
    program_cache.keep_in(None)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    assert kept_in(f"--compilation_cache={tmp_path}/mine") == tmp_path / "mine"
    program_cache.keep_in(None)
    assert kept_in("--nocompilation_cache") is None
    assert jax.config.jax_compilation_cache_dir is None
    assert not home.exists()


def test_that_of_jax_comes_before_the_default(home, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    assert kept_in() == tmp_path / "jax"
    assert not home.exists()


def test_several_processes_have_jaxs_own_cache_if_one_is_asked_for(home, tmp_path):
    assert kept_in("--distributed") is None
    assert jax.config.jax_compilation_cache_dir is None
    kept_in("--distributed", f"--compilation_cache={tmp_path}/mine")
    assert jax.config.jax_compilation_cache_dir == f"{tmp_path}/mine"


def spoil_mode(home):
    home.mkdir(parents=True)
    home.chmod(0o777)


def spoil_parent(home):
    home.parent.write_text("a file")


@pytest.mark.parametrize("spoil", [spoil_mode, spoil_parent])
def test_a_default_folder_that_will_not_do_is_done_without(home, capsys, spoil):
    spoil(home)
    assert kept_in() is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: compiled programs are not kept: ")
    assert str(home.parent) in line


def test_a_folder_that_was_asked_for_and_will_not_do_is_an_error(home, tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    code, out, err = run_quickly("her_adapt", "--list_tasks", f"--compilation_cache={folder}")
    assert code == 2
    assert out == ""
    assert err == f"error: others may write programs into {folder}: give a folder of your own\n"
    folder = home.parent / "below"
    home.parent.write_text("a file")
    code, out, err = run_quickly("her_adapt", "--list_tasks", f"--compilation_cache={folder}")
    assert (code, len(err.splitlines())) == (2, 1)


def test_help_tells_both_forms(home):
    _, out, err = run_quickly("her_adapt", "--help")
    assert "--[no]compilation_cache" in out + err
    assert "--nocompilation_cache" in " ".join((out + err).split())


def test_the_second_command_loads_what_the_first_compiled(home, tiny_weights, tmp_path):
    arguments = ["--task=9-squares", f"--checkpoint={tiny_weights}", "--programs=4", "--plain"]
    arguments += ["--learner=best-of-n"]
    arguments += ["--max_epochs=2", "--minibatch=2", "--max_draws=3"]
    found, results = [], []
    for name in ("cold", "warm"):
        code, _, err = run("her_adapt", *arguments, f"--workdir={tmp_path / name}")
        assert (code, err) == (0, "")
        results.append(json.loads((tmp_path / name / "result.json").read_text()))
        found.append(contents(home))
    assert found[0] == found[1]
    assert len(found[0]) >= 4
    assert {path.stat().st_mode & 0o777 for path in home.iterdir()} == {0o600}
    cold, warm = results
    assert warm["seconds_compile"] < cold["seconds_compile"] / 4
    assert cold["mean_attempt"] == warm["mean_attempt"]
