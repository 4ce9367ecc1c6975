"All five stages at once, and every other combination of choices: each runs, or is refused before anything is asked, with a cure that works."
import itertools
import dataclasses
import json
import random
import re
import warnings
import zlib
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fault_server import FaultServer
from scripted_teacher import ScriptedTeacher
from synthlab import embeddings
from synthlab.teacher.servers import remember_server
from synthlab.teacher.chat import ChatTeacher
from synthlab.cli.main import OPTIONS, _stages
from synthlab.correct.choices import Correction
from synthlab.decode.choices import CFG, CorrSynth, FewGen
from synthlab.run.produce import estimate, export_run, make_teacher, produce, replay, make_config
from synthlab.run.recipe import PRESETS, Recipe, added_stages, leave_one_out, load_recipe
from synthlab.store.runs import open_run, read_rows
from synthlab.decode.sampling import Sampling
from synthlab.align.choices import MMDAlignment, NoAlignment
from synthlab.choice import CHOICES, make_choice, option_names
from synthlab.prompt.choices import Attributes, FewShot, Simple, Targeted
from synthlab.select.choices import NoSelection, plan_entries, RandomSelection, SpreadSelection, UncertaintySelection
from synthlab.correct.choices import NoCorrection
from synthlab.tasks.task import load_task
from test_kills import killed, same_rows, session
from test_recipe import SHORT, SST2, Letters, gold, made                    # noqa: F401 (gold is a fixture)


@pytest.fixture(autouse=True)
def letters(monkeypatch): monkeypatch.setattr(embeddings, 'default_embedder', Letters)


@pytest.fixture(scope='module')
def pocket(): return make_teacher({'teacher': {'name': 'pocket'}})


def doubting(): return ScriptedTeacher(verdict=lambda asked: asked.answers[zlib.crc32(asked.instance['text'].encode()) % 3 % 2], name='judge')


# ---- every combination

ALL = {'select': [NoSelection(), RandomSelection(), UncertaintySelection(), SpreadSelection('kmeans++')],
       'prompt': [FewShot(1), FewShot(0), FewShot(1, shared=True), Attributes(per_record=2), Attributes(source='recombined'), Attributes(source='drawn'), Attributes(texts=5), Simple(), Targeted(contexts=2), Targeted(explain=True, contexts=2)],
       'decode': [FewGen(), CFG(delta=.5), CorrSynth(delta=.5)], 'correct': [NoCorrection(), Correction(), Correction(show_explanation=True)], 'align': [NoAlignment(), MMDAlignment(keep='rows', candidates=1.5)]}


def chosen(**fewer):
    "Every combination of choices, as objects by stage."
    options = ALL | fewer
    return [dict(zip(options, found)) for found in itertools.product(*options.values())]


def fitting(**fewer):
    "Those that make a recipe."
    for choices in chosen(**fewer):
        try: yield Recipe(**choices, name='mine')
        except ValueError: pass


def fault(choices):
    "Why choices make no recipe; empty if they do."
    try: Recipe(**choices)
    except ValueError as error: return str(error)
    return ''


def cured(choices, said):
    "The choices after each of the cures that a refusal names, one by one; and after all of its last cure together."
    advice = said.split(': take ')[-1]
    found = [[(name, value) for name, first, others in re.findall(r'(\w+) = ("[\w-]+"|\d+|true|false)((?:,? or "[\w-]+"|, "[\w-]+")*)', part) for value in [first, *re.findall(r'"[\w-]+"', others)]] for part in re.split(r', or (?=\w+ =)', advice)]
    for pairs in [[pair] for part in found for pair in part] + [list(dict(reversed(part)).items()) for part in found]:
        made = dict(choices)
        for name, value in pairs:
            if name in CHOICES: made[name] = make_choice(name, {'choice': json.loads(value)})
        for name, value in pairs:
            for stage, choice in made.items():
                if name in option_names(type(choice)): made[stage] = dataclasses.replace(choice, **{name: json.loads(value)})
        yield made


def test_each_refusal_names_cures_and_every_way_of_following_them_ends_in_a_recipe():
    refused = [(choices, said) for choices in chosen(align=[NoAlignment()]) if (said := fault(choices))]
    assert len(refused) > 240
    for choices, said in refused:
        tries, waiting = 0, [choices]
        while waiting and (said := fault(waiting[0])):
            assert ': take ' in said and tries < 5, said
            better = [made for made in cured(waiting[0], said) if fault(made) != said]
            assert better, f'nothing that is named helps: {said}'
            waiting, tries = sorted(better, key=lambda made: bool(fault(made))), tries + 1


def test_the_same_is_said_by_python_a_file_and_the_command_line(tmp_path):
    for words in ('{"select": "none"}', '{"shots": 0}', '{"prompt": "simple"}', '{"prompt": "attributes", "texts": 5}',
                  '{"prompt": "targeted", "select": "none"}', '{"shared": true}'):
        options = json.loads(words)
        with pytest.raises(ValueError) as python: Recipe.combined(**options)
        table = Recipe.combined().table
        for name, value in options.items():
            if name in CHOICES: table[name] = {'choice': value}
        for name, value in options.items():
            if name not in CHOICES: table['prompt'][name] = value
        (tmp_path/'mine.toml').write_text('\n'.join(f'[{stage}]\n' + '\n'.join(f'{name} = {json.dumps(value)}' for name, value in table[stage].items()) for stage in CHOICES))
        with pytest.raises(ValueError) as file: Recipe.from_toml(tmp_path/'mine.toml')
        with pytest.raises(ValueError) as line: _stages(SimpleNamespace(**dict.fromkeys(OPTIONS) | {'recipe': 'combined'} | options))
        assert str(file.value) == f"{tmp_path/'mine.toml'}: {python.value}" and str(line.value) == str(python.value)


def test_a_teacher_that_answers_in_text_runs_what_is_independent_and_is_asked_nothing_else(tmp_path):
    ends = Counter()
    for number, recipe in enumerate(fitting(select=[NoSelection(), UncertaintySelection()], correct=[NoCorrection(), Correction()], align=[MMDAlignment(keep='rows', candidates=1.5)])):
        teacher = doubting()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            try: done = made(make_config(recipe, SST2, teacher, 4, sampling=SHORT), tmp_path/f'{number}', teacher)
            except ValueError as error:
                assert recipe.decode.name != 'fewgen' and 'decode = "independent"' in str(error) and not teacher.asked
                ends['refused'] += 1
                continue
        assert recipe.decode.name == 'fewgen' and sum(done.counts['accepted'].values()) == 4, recipe
        ends['ran'] += 1
    assert ends == {'ran': 2*9, 'refused': 2*2*6}


@pytest.mark.parametrize('decode', ALL['decode'], ids=lambda decoder: decoder.name)
def test_a_model_in_this_process_runs_every_way_of_drawing(tmp_path, pocket, decode):
    ran = 0
    prompts = [FewShot(1), FewShot(0), Attributes(source='drawn'), Simple()]
    for number, recipe in enumerate(fitting(select=[RandomSelection(), UncertaintySelection()], prompt=prompts, decode=[decode], correct=[Correction(policy='relabel')], align=[MMDAlignment(keep='rows', candidates=1.5)])):
        judge = doubting()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            done = made(make_config(recipe, SST2, pocket, 4, sampling=Sampling(4, .95, .9), corrector=judge), tmp_path/f'{number}', pocket, corrector=judge)
        assert sum(done.counts['accepted'].values()) == 4, (recipe, done.counts)
        ran += 1
    assert ran == 5


# ---- all at once

def checked(policy='drop', **options):
    "The combination with a second look at every label in place of evidence."
    return Recipe.combined(correct=Correction(show_label=False, policy=policy), **options)


COMBINED = {'few-shot': checked(shots=1, delta=.5), 'attributes': checked(prompt='attributes', per_record=2), 'relabelled': checked('relabel', shots=1)}


@pytest.mark.parametrize('name', COMBINED)
def test_combined_runs_end_to_end_and_every_row_adds_up(tmp_path, gold, pocket, name):                # noqa: F811
    recipe, judge = COMBINED[name], doubting()
    request = make_config(recipe, SST2, pocket, 12, sampling=SHORT, gold=gold, corrector=judge, budget=144)
    told = estimate(request, pocket, corrector=judge)
    assert not judge.asked and told.calls == 6 + 12 + 6*(name == 'attributes')
    done = made(request, tmp_path/'run', pocket, corrector=judge)
    rows = list(read_rows(tmp_path/'run', None))
    good = [row for row in rows if row['status'] == 'accepted']
    assert Counter(row['label'] for row in good) == {'negative': 6, 'positive': 6} and not done.shortfall
    assert done.counts['candidates'] == len(rows) == sum(done.counts['accepted'].values()) + sum(done.counts['rejected'].values())
    copies = 'copy of a demonstration', 'repeats an earlier row'                     # known before the label is looked at
    assert len(judge.asked) == sum(row['reason'] not in copies for row in rows)
    assert all(row['label'] == row['label_corrected'] for row in good)
    if name != 'relabelled':
        assert all(row['label'] == row['label_target'] for row in good) and {row['reason'] for row in rows} <= {'', 'surplus', *copies, *(f'self-correction says {label}' for label in SST2.label_names)}
    texts = {label: set(found) for label, found in pd.read_csv(gold).groupby('label').text}
    with open_run(tmp_path/'run') as run: plan, pool = run.facts['plan'], [demo['id'] for demo in stages_pool(gold, 'positive')]
    if name != 'attributes': assert [row['demos'][0] for row in rows if row['label_target'] == 'positive'][:6] == [pool[entry[0]] for entry in plan['positive'][:6]]
    assert texts and (name == 'attributes') == all(row['attributes'] for row in rows)
    weights = pd.DataFrame(good).groupby('label').weight
    np.testing.assert_allclose(weights.mean(), 1)
    assert done.aligned['mmd'] <= done.aligned['mmd_uniform'] and sum(map(sum, done.corrected['counts'])) == len(judge.asked)
    asked = len(judge.asked)
    assert replay(tmp_path/'run', good[3]['id'], pocket).same and estimate(request, pocket, tmp_path/'run', corrector=judge).calls == 0
    assert made(request, tmp_path/'run', pocket, corrector=judge).rows == 0 and len(judge.asked) == asked
    card = export_run(tmp_path/'run', 'csv')[1].read_text()
    assert all(part in card for part in ('## Self-correction', '## Alignment', 'judge', '2411.08553', '2502.08661', '2310.17876'))


def stages_pool(gold, label):                                                # noqa: F811
    "The examples of a label, as a run has them."
    from synthlab.tasks.gold import demonstration_pool, load_gold
    return demonstration_pool(SST2, load_gold(gold, SST2, part='train'))[label]


def test_a_fork_adds_a_stage_and_pays_for_that_stage_only(tmp_path, gold, pocket):                     # noqa: F811
    plain, judge = load_recipe('combined-no-correct').having(shots=1), doubting()
    made(make_config(plain, SST2, pocket, 12, sampling=SHORT, gold=gold), tmp_path/'plain', pocket)
    request = make_config(checked('flag', shots=1), SST2, pocket, 12, sampling=SHORT, gold=gold, corrector=judge)
    told = estimate(request, pocket, tmp_path/'plain', corrector=judge)
    done = made(request, tmp_path/'more', pocket, corrector=judge, fork=tmp_path/'plain')
    assert len(judge.asked) == 12 == done.usage.calls and told.calls in (12, 18)             # the plan of another recipe is not relied upon
    assert [row['text'] for row in read_rows(tmp_path/'more')] == [row['text'] for row in read_rows(tmp_path/'plain')]


@pytest.mark.parametrize('recipe', [Recipe.combined(), Recipe.combined(prompt='attributes'), Recipe.cfg()], ids=['few-shot', 'attributes', 'cfg'])
def test_a_server_is_refused_as_the_writer_before_anything_is_read(recipe):
    with FaultServer() as server:
        with pytest.raises(ValueError, match='decode = "independent"'): make_config(recipe, SST2, ChatTeacher('owl', server.url), 8, gold='nowhere.csv')
        assert server.stats()['received'] == 0


@pytest.mark.long
def test_combined_survives_kills(tmp_path, monkeypatch):
    monkeypatch.setenv('OPENAI_API_KEY', 'none')
    task, rng, kills, tries = load_task('sst2'), random.Random(0), 0, 0
    with FaultServer(delay=.02) as server:
        remember_server(server.url, 'OPENAI_API_KEY')
        request = make_config(checked(shots=1, delta=.5, select='random', align='none'), task, make_teacher({'teacher': {'name': 'pocket'}}), 16, sampling=Sampling(12, .95, .9), machine={'max_rows': 8},
                               corrector=ChatTeacher('judge', server.url, concurrency=4))
        session(request, tmp_path/'whole', tmp_path/'log')
        def judged(log): return server.answered.total()
        while kills < 3:
            tries, out, alive = tries + 1, tmp_path/f'run{tries}', True
            while alive:
                alive = killed(request, out, tmp_path/'log', rng, 5, judged)
                kills += alive
            same_rows(out, tmp_path/'whole')


# ---- one stage less

def test_leaving_a_stage_out_changes_that_stage_only():
    for make in PRESETS.values():
        whole = make()
        for stage, less in leave_one_out(whole).items():
            assert load_recipe(less.name) == less and stage not in added_stages(less)
            assert [other for other in CHOICES if getattr(less, other) != getattr(whole, other)] in ([stage], ['select', stage])
    assert leave_one_out(Recipe.fewgen()) == {} and leave_one_out(Recipe.targen())['prompt'].select == RandomSelection()
    for wrong, said in {'combined-no-aling': "did you mean 'align'", 'fewgen-no-decode': 'adds to FewGen: nothing', 'combine-no-align': "no recipe 'combine-no-align'"}.items():
        with pytest.raises(ValueError, match=re.escape(said)): load_recipe(wrong)


@pytest.mark.parametrize('picks, shots', [(5, 3), (4, 2), (6, 4), (7, 7), (3, 1)])
def test_a_plan_shows_all_picks_equally_often_and_none_twice_at_once(picks, shots):
    entries = plan_entries([[row] for row in range(picks)], shots)
    assert all(len(set(entry)) == shots for entry in entries) and len(set(Counter(itertools.chain(*entries)).values())) == 1
    assert list(itertools.chain(*entries))[:picks] == list(range(picks))
