"Large files are selected from and weighed by commands: as in Python, in several sittings, and with refusals before the work."
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from light import run_light
from synthlab import blocks
from synthlab.align.blocks import BlockWeights
from synthlab.cli import main as cli
from synthlab.select.blocks import select_blocks

ROOT = Path(__file__).parents[2]


class Numbers:
    "An encoder whose vectors are drawn by the text, and which is stopped after so many calls."
    space = 'numbers'

    def __init__(self, calls=99): self.calls, self.asked = calls, 0

    def encode(self, texts):
        if not self.calls: raise KeyboardInterrupt
        self.calls, self.asked = self.calls - 1, self.asked + len(texts)
        rows = np.array([np.random.default_rng(sum(map(ord, text))).normal(size=8) + 2*('sea' in text) for text in texts])
        return rows/np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    "Runs a command in a folder with two files; tells its exit status and what it printed."
    monkeypatch.chdir(tmp_path)
    for name, every in (('made.jsonl', 2), ('real.jsonl', 5)):
        Path(name).write_text(''.join(json.dumps({'body': f'sea {i}' if i % every == 0 else f'land {i}', 'kind': 'abc'[i % 3], 'id': i}) + '\n' for i in range(90)))
    def run(words, encoder):
        monkeypatch.setattr(blocks, '_encoder', lambda model: encoder)
        capsys.readouterr()
        return cli.main(words.split()), *capsys.readouterr()
    return run


def test_rows_are_picked_in_two_sittings(command):
    words = 'select made.jsonl --n 12 --out picked/rows.parquet --text body --block-rows 20'
    status, _, err = command(words, Numbers(3))
    assert status == 130 and '3 blocks are embedded in picked/rows-blocks; the same command goes on from there.' in ' '.join(err.split())
    status, out, err = command(words, rest := Numbers())
    assert status == 0 and rest.asked == 30 and '12 of 90 rows are picked.' in out, err
    wanted = select_blocks('picked/rows-blocks', 12).places
    assert pd.read_parquet('picked/rows.parquet')['id'].tolist() == (wanted @ [20, 1]).tolist()


@pytest.mark.parametrize('label', [None, 'kind'])
def test_rows_get_weights(command, label):
    status, out, err = command(f"align made.jsonl --gold real.jsonl --out out.parquet --text body --block-rows 20 --cap 5{f' --label {label}'*bool(label)}", Numbers())
    assert status == 0 and 'out.parquet' in out, err
    found = pd.read_parquet('out.parquet')
    fitted = BlockWeights(cap=5).fit('out-blocks/gold', 'out-blocks/rows', by_label=bool(label))
    wanted = np.concatenate([fitted.weigh(block.vectors, block.labels) for block in map(blocks.read_block, blocks.find_blocks('out-blocks/rows'))])
    assert np.allclose(found['weight'], wanted, atol=1e-6) and found['id'].tolist() == list(range(90))
    assert found[found['body'].str.contains('sea')]['weight'].mean() < .6


def test_a_folder_and_a_run_are_files_of_rows(command):
    Path('parts').mkdir()
    for k, name in enumerate('ba'): Path(f'parts/{name}.jsonl').write_text(f'{{"body": "sea {k}", "id": {k}}}\n{{"body": "land {k}", "id": {k}}}\n')
    Path('run').mkdir(), Path('run/run.db').touch(), Path('run/other.jsonl').write_text('{}')
    pd.DataFrame({'body': ['sea 9'], 'id': [9]}).to_parquet('run/dataset.parquet')
    assert command('select parts run --n 3 --out out.parquet --text body', Numbers())[0] == 0
    assert [json.loads(path.read_text())['parts'][-1][0] for path in Path('out-blocks').glob('*.json')] == ['dataset.parquet']


def test_what_cannot_be_done_is_told_before_torch_is_loaded(tmp_path):
    Path(tmp_path/'a.jsonl').write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    Path(tmp_path/'b.jsonl').write_text('{"text": "a", "label": "x"}\n')
    told = {'select a.json --n 1 --out o.parquet': "did you mean 'a.jsonl'", 'select a.jsonl --n 3 --out o.parquet': '--n 3: there are only 2 rows',
            'select a.jsonl --n 1 --out o.csv': 'ends in .parquet', 'select a.jsonl --n 1 --out o.parquet --text body': "no column 'body'",
            'select a.jsonl --n 1 --out o.parquet --blocks .': 'give a folder of its own', 'select a.jsonl --n 1 --out o.parquet --workers 2': '--workers: there is no --ray',
            'align a.jsonl --gold b.jsonl --label label --out o.parquet': "--gold has no row of the label 'y'", 'align b.jsonl --gold a.jsonl --label label --out o.parquet': "the rows to weigh have no row of the label 'y'",
            'align a.jsonl --gold b.jsonl --out o.parquet --cap 0.5': 'cap must be over 1'}
    found = run_light(told, ['torch'], cwd=tmp_path, env=os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'})
    for words, (status, said, heavy) in found.items(): assert status == 2 and told[words] in ' '.join(str(said).split()) and not heavy, (words, status, said, heavy)
    assert not list(tmp_path.glob('o*'))
