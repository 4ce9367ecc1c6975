"The Tab key: words that a shell offers, in a real bash, at once and without the heavy packages."
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from synthlab.cli import main as cli
from synthlab.run.recipe import PRESETS
from synthlab.tasks.task import task_names

ROOT = Path(__file__).parents[2]


@pytest.fixture
def offered(monkeypatch, capsys, tmp_path):
    "What a shell is told when the Tab key is pressed at the end of a line."
    monkeypatch.chdir(tmp_path)
    for folder in ('runs/demo', 'runs/deep', 'other'): Path(folder).mkdir(parents=True); Path(folder, 'run.db').touch()
    Path('mine.toml').touch()
    def offer(line, shell='bash'):
        for name, value in {'_SYNTHLAB_COMPLETE': f'complete_{shell}', 'COMP_WORDS': line, 'COMP_CWORD': str(line.count(' ')), '_TYPER_COMPLETE_ARGS': line,
                            '_TYPER_COMPLETE_FISH_ACTION': 'get-args'}.items(): monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as end: cli.main([])
        assert not end.value.code
        return capsys.readouterr().out.split('\n')[:-1]
    return offer


def test_commands_options_tasks_recipes_and_runs(offered):
    assert offered('synthlab doc') == ['doctor']
    assert offered('synthlab generate ') == [*task_names(), 'mine.toml'] and offered('synthlab generate ag') == ['ag_news']
    assert set(offered('synthlab bake-off sst2 --recipes ')) == {*PRESETS, 'mine.toml'}
    assert offered('synthlab generate ag_news --recipe comb') == ['combined']
    assert offered('synthlab bake-off sst2 --recipes fewgen,syn') == ['fewgen,synalign']
    assert offered('synthlab tasks show amaz') == ['amazon_category'] and offered('synthlab recipes show m') == ['masked', 'mine.toml']
    for command in ('status', 'resume', 'replay', 'export', 'evaluate', 'compare other'):
        assert offered(f'synthlab {command} r') == ['runs/deep', 'runs/demo']
    assert offered('synthlab status runs/dem') == ['runs/demo'] and offered('synthlab status no') == ['']
    assert offered('synthlab generate sst2 --duplicates m') == ['meaning'] and '--base-url' in offered('synthlab doctor --')


def test_zsh_and_fish(offered):
    assert offered('synthlab generate ag', 'zsh') == ["_arguments '*: :((\"ag_news\"))'"]
    assert offered('synthlab status no', 'zsh') == ['_files']
    assert offered('synthlab generate ag', 'fish') == ['ag_news']


BASH = """
eval "$(synthlab --show-completion)"
complete -p synthlab
COMP_WORDS=(synthlab status ru); COMP_CWORD=2
_synthlab_completion synthlab
printf '%s\\n' "${COMPREPLY[@]}"
"""
SLIM = "import sys\ntry: from synthlab.cli.start import start; start()\nfinally: assert not {'torch', 'transformers', 'datasets', 'pyarrow', 'aiohttp'} & set(sys.modules)"


@pytest.mark.skipif(not shutil.which('bash') or os.name != 'posix', reason='there is no bash')
def test_a_real_bash_offers_runs_and_nothing_heavy_is_loaded(tmp_path):
    program = tmp_path/'bin'/'synthlab'
    for folder in (program.parent, tmp_path/'runs'/'demo'): folder.mkdir(parents=True)
    (tmp_path/'runs'/'demo'/'run.db').touch()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{SLIM}" "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {'PATH': f'{program.parent}:{os.environ["PATH"]}', 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(['bash', '--norc', '-c', BASH], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert not done.stderr and done.stdout.split('\n') == ['complete -o default -F _synthlab_completion synthlab', 'runs/demo', '']
