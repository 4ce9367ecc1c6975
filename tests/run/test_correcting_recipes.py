"Self-correction behind other recipes, and by another teacher than the one that writes."
import tomllib
from collections import Counter

import pytest
from fault_server import FaultServer
from scripted_teacher import ScriptedTeacher
from synthlab.cli.main import main
from synthlab.correct.choices import Correction
from synthlab.decode.sampling import Sampling
from synthlab.run.produce import produce, replay, make_config
from synthlab.run.recipe import Recipe
from synthlab.store.runs import open_run, read_rows
from synthlab.tasks.task import load_task
from synthlab.teacher.causal import CausalTeacher

SHORT = Sampling(16, .95, .9)


@pytest.fixture(scope='module')
def pocket(): return CausalTeacher('pocket')


def test_correlated_texts_are_corrected_by_another_teacher(pocket, tmp_path):
    judge = ScriptedTeacher(verdict=lambda asked: 'positive' if len(asked.instance['text']) % 3 else 'negative', name='judge')
    recipe = Recipe.corrsynth(shots=1, correct=Correction(votes=3, show_label=False))
    request = make_config(recipe, load_task('sst2'), pocket, 12, sampling=SHORT, corrector=judge)
    done = produce(request, tmp_path/'run', pocket, corrector=judge)
    rows = list(read_rows(tmp_path/'run', None))
    good = [row for row in rows if row['status'] == 'accepted']
    assert Counter(row['label'] for row in good) == {'negative': 6, 'positive': 6} and request['corrector']['name'] == 'judge'
    assert all(row['label'] == row['label_corrected'] == ('positive' if len(row['text']) % 3 else 'negative') and sum(vote['votes'] for vote in row['sc_votes']) == 3 for row in good)
    assert len(judge.asked) == 3*len(rows) and not any('The label that it has now' in asked.question for asked in judge.asked)
    assert done.corrected['flip_rate']['k'] == sum(row['flipped'] for row in rows) > 0 and 'Self-correction' in (tmp_path/'run'/'README.md').read_text()
    assert replay(tmp_path/'run', good[0]['id'], pocket).same
    before = len(judge.asked)
    produce(request, tmp_path/'run', pocket, corrector=judge)
    assert len(judge.asked) == before
    with pytest.raises(ValueError, match='corrector'): produce(request, tmp_path/'run', pocket, corrector=ScriptedTeacher(name='another'))


def test_a_corrector_without_correction_is_refused(pocket):
    with pytest.raises(ValueError, match='corrects no labels'): make_config(Recipe.fewgen(), load_task('sst2'), pocket, 4, corrector=ScriptedTeacher())


def test_the_command_asks_a_server_for_the_labels(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv('OPENAI_API_KEY', 'none')
    with FaultServer() as server:
        asked = ['generate', 'sst2', '--recipe', 'fewgen', '--shots', '1', '--max-new-tokens', '16', '--n', '8', '--correct', 'self-correction', '--policy', 'flag', '--blind',
                 '--corrector', 'judge', '--corrector-url', server.url, '--out', f'{tmp_path}/run']
        assert main(asked) == 0
        assert server.bodies[-1]['model'] == 'judge' and main(['resume', f'{tmp_path}/run']) == 0
    told = tomllib.loads((tmp_path/'run'/'recipe.toml').read_text())
    assert told['corrector']['name'] == 'judge' and told['method']['correct'] == {'choice': 'self-correction', 'show_label': False, 'show_explanation': False, 'votes': 1, 'policy': 'flag', 'none_fits': False}
    with open_run(tmp_path/'run') as run: rows, corrected = list(run.rows()), run.facts['corrected']
    assert all(row['label'] == row['label_target'] for row in rows) and {row['flipped'] for row in rows} == {True, False} and sum(map(sum, corrected['counts'])) == len(rows)
    assert 'Self-correction' in capfd.readouterr().out and main([*asked[:-1], f'{tmp_path}/other', '--corrector-url', server.url, '--votes', '0']) == 2
