"The task in the guide, from an empty folder: what a reader copies works, and what it promises is there."
import json
import re
from pathlib import Path

import pytest
from datasets import load_dataset
from execnb.nbio import read_nb
from synthlab.cli.main import main
from synthlab.tasks.strategy import check_task
from synthlab.tasks.task import load_task
from synthlab.tasks.strategies import find_strategy
from fault_server import FaultServer

GUIDE = read_nb(Path(__file__).parents[2]/'nbs'/'guide'/'03_without_examples.ipynb')
TEXT = '\n'.join(cell.source for cell in GUIDE.cells if cell.cell_type == 'markdown')
[EXAMPLE] = [block for block in re.findall(r'```toml\n(.*?)```', TEXT, re.S) if '[targen]' in block]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    "An empty folder with the guide's task in it."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('OPENAI_API_KEY', 'none')
    (tmp_path/'mine.toml').write_text(EXAMPLE, encoding='utf-8')
    return tmp_path


def test_the_task_of_the_guide_is_sound(folder):
    task = load_task('mine.toml')
    check_task(task, find_strategy(task))
    assert task.fields == ('message', 'reply') and task.targen.vary['tone'] == ('friendly', 'short', 'formal')


def test_the_task_of_the_guide_runs_from_an_empty_folder(folder, capfd):
    with FaultServer(faults=.2) as server:
        asked = ['generate', 'mine.toml', '--recipe', 'targen', '--base-url', server.url, '--teacher', 'birds', '--whole-schema', '--n', '12', '--correct', 'none', '--timeout', '3', '--out', 'runs/mine']
        assert main([*asked, '--estimate']) == 0
        told = capfd.readouterr().out
        assert re.search(r'calls +16\b', told), told                       # 2 for contexts, 2 for seeds, 12 for rows
        assert main(asked) == 0
        told = capfd.readouterr().out
        assert '12 of 12' in told and re.search(r'Contexts: 20 \(\d+ calls', told) and re.search(r'Seeds: \d+ \(\d+ calls', told)
        seen = sum(server.received.values())
        assert main(asked) == 0 and sum(server.received.values()) == seen  # finished: nothing is asked again
    rows = load_dataset('parquet', data_files='runs/mine/dataset.parquet', split='train', cache_dir=str(folder/'cache'))
    assert {tuple(sorted(row['fields'])) for row in rows} == {('message', 'reply')} and rows[0]['fields']['message'] == json.loads(rows[0]['seed_text'])['message']
    assert sorted(rows.features['label'].int2str(rows['label'])) == ['no_promise']*6 + ['promise']*6 and sum(1 for _ in open('runs/mine/contexts.jsonl', encoding='utf-8')) == 20


def test_seeds_of_a_run_are_edited_and_used_again(folder, capfd):
    with FaultServer() as server:
        options = ['--recipe', 'targen', '--base-url', server.url, '--teacher', 'birds', '--whole-schema', '--correct', 'none']
        assert main(['generate', 'mine.toml', *options, '--n', '4', '--out', 'runs/a']) == 0
        lines = [json.loads(line) for line in open('runs/a/seeds.jsonl', encoding='utf-8')]
        lines[0]['message'] = 'My kettle sings and does not boil. {{ it }} is new.'
        Path('mine.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n', encoding='utf-8')
        assert main(['generate', 'mine.toml', *options, '--n', '4', '--seeds-from', 'mine.jsonl', '--out', 'runs/b']) == 0
        assert not any('contexts' in json.dumps(body.get('response_format', {})) for body in list(server.bodies)[-4:])
    rows = load_dataset('parquet', data_files='runs/b/dataset.parquet', split='train', cache_dir=str(folder/'cache'))
    assert rows[0]['fields']['message'] == 'My kettle sings and does not boil. {{ it }} is new.'
