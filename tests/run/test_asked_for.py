"What is asked for with `generate` is done, and nothing of it is dropped: limits, sampling, gold data in memory, repeated texts, teachers of one's own."
import inspect
import warnings
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from datasets import Dataset
from fault_server import FaultServer
from light import run_light
from scripted_teacher import ScriptedTeacher
from synthlab.decode.sampling import Sampling
from synthlab.run import produce as production
from synthlab.run.produce import check, code_without_words, derivation, make_teacher, produce, make_config
from synthlab.run.recipe import PRESETS, Recipe, generate
from synthlab.run.screening import make_screen
from synthlab.store.runs import read_recipe, read_rows
from synthlab.tasks import gold as data
from synthlab.tasks.task import load_task
from synthlab.teacher.asking import TextTeacher
from synthlab.teacher.chat import ChatTeacher
from synthlab.teacher.requests import Answer

NEWS = load_task('ag_news')
WORLD = {label: float(label == 'World') for label in NEWS.label_names}
FRAME = pd.DataFrame({'text': [f'Report {i} tells of {label.lower()} number {i}.' for i in range(20) for label in NEWS.label_names],
                      'label': [label for _ in range(20) for label in NEWS.label_names]})


@pytest.fixture(scope='module')
def pocket(): return make_teacher({'teacher': {'name': 'pocket'}})


@pytest.fixture(autouse=True)
def quietly():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


# ---- every keyword counts, and no other is taken

def test_a_limit_of_calls_holds(tmp_path):
    with FaultServer() as server:
        teacher = ChatTeacher('owl', server.url, pause=.005, timeout=2.)
        rows = Recipe.fewgen().generate('ag_news', n=8, out=tmp_path/'run', teacher=teacher, max_calls=3)
        assert server.stats()['received'] == 3 and len(rows) == 3
        assert len(Recipe.fewgen().generate('ag_news', n=8, out=tmp_path/'run', teacher=teacher)) == 8
        assert server.stats()['received'] == 8                                  # what was answered is not asked again
    assert read_recipe(tmp_path/'run')['n'] == 8


@pytest.mark.parametrize('wrong, said', [({'temprature': 3}, "'temperature'"), ({'max_call': 3}, "'max_calls'"), ({'overwrit': True}, "'overwrite'"), ({'labels': 2}, "'labels'"),
                                         ({'delta': .5}, r'recipe=Recipe.corrsynth\(delta=...\)'), ({'shots': 1}, 'belongs to the recipe')])
def test_an_unknown_keyword_is_refused_with_the_nearest(tmp_path, wrong, said):
    for ask in (generate, Recipe.fewgen().generate):
        with pytest.raises(TypeError, match=said): ask('ag_news', n=4, out=tmp_path/'run', **wrong)
    assert not (tmp_path/'run').exists()


@pytest.mark.parametrize('wrong, said', [({'max_cost': 0.}, 'max_cost must be a number above 0'), ({'max_calls': 0}, 'max_calls'), ({'max_cost': 1.}, 'price'), ({'temperature': -1}, 'temperature'),
                                         ({'top_p': 0}, 'top_p'), ({'temperature': 1., 'sampling': Sampling()}, 'sampling is given whole'), ({'duplicates': 'word'}, "did you mean 'words'"),
                                         ({'recipe': 'simprompt', 'gold': FRAME}, 'looks at no real text'), ({'recipe': 'targen', 'max_new_tokens': 9}, 'follows from the task'),
                                         ({'corrector': ScriptedTeacher()}, 'corrects no labels'), ({'teacher': ScriptedTeacher(), 'recipe': 'fewgen', 'max_rows': 8}, 'max_rows is for a model'),
                                         ({'teacher': ScriptedTeacher(), 'recipe': 'fewgen', 'device': 'cpu'}, 'made already'), ({'teacher': object()}, 'is not a teacher'), ({'embedder': object()}, 'embeds no text'), ({'gold': 7}, 'holds no rows'), ({'n': 0}, 'at least 1')])
def test_what_cannot_be_done_is_refused_before_the_folder_is_made(tmp_path, wrong, said):
    with pytest.raises(ValueError, match=said): generate('ag_news', **{'n': 4, 'out': tmp_path/'run', **wrong})
    assert not (tmp_path/'run').exists()


def test_sampling_is_what_was_asked_and_the_file_says_so(tmp_path, pocket):
    for name, given in {'plain': {}, 'hot': {'temperature': 1.5, 'top_p': .5, 'top_k': 7, 'max_new_tokens': 9}}.items():
        generate('ag_news', 4, 'fewgen', out=tmp_path/name, teacher=pocket, **given)
        told = read_recipe(tmp_path/name)
        assert told['sampling'] == {'max_new_tokens': NEWS.max_new_tokens, 'temperature': .95, 'top_p': .9, 'top_k': 0} | given
        assert 'max_rows' not in told['machine'] and 'device' not in told['machine']
    assert [row['text'] for row in read_rows(tmp_path/'plain')] != [row['text'] for row in read_rows(tmp_path/'hot')]


def test_both_ways_to_ask_have_the_same_keywords():
    one, other = (inspect.signature(ask).parameters for ask in (generate, Recipe.generate))
    assert set(one) - set(other) == {'recipe'} and set(other) - set(one) == {'self'}
    assert {name: (one[name].default, other[name].default) for name in one.keys() & other.keys() if one[name].default != other[name].default} == {'out': (None, 'runs/dataset')}


def test_without_a_folder_each_call_takes_a_new_one(tmp_path, monkeypatch, pocket, capsys):
    monkeypatch.chdir(tmp_path)
    for _ in range(2): generate('ag_news', n=4, recipe='fewgen', teacher=pocket, max_new_tokens=9)
    assert sorted(path.name for path in Path('runs').iterdir()) == ['ag_news-fewgen-1', 'ag_news-fewgen-2']
    assert capsys.readouterr().out.splitlines() == [f"Writing to {Path('runs')/f'ag_news-fewgen-{number}'}" for number in (1, 2)]
    with pytest.raises(ValueError): generate('ag_news', n=4, max_calls=-1)
    assert len(list(Path('runs').iterdir())) == 2                               # a refused request leaves no folder


# ---- gold data

def counting(monkeypatch):
    "Counts how often gold rows are read."
    read = Counter()
    def load(spec, task, part): read['gold'] += 1; return data.load_gold(spec, task, part)
    monkeypatch.setattr(production, 'read_gold', load)
    return read


def test_gold_is_read_once(tmp_path, monkeypatch, pocket):
    FRAME.to_csv(tmp_path/'gold.csv', index=False)
    read = counting(monkeypatch)
    generate('ag_news', 4, 'fewgen', gold=tmp_path/'gold.csv', out=tmp_path/'run', teacher=pocket, max_new_tokens=9)
    assert read == {'gold': 1}


def test_check_gives_what_produce_takes(tmp_path, monkeypatch, pocket):
    FRAME.to_csv(tmp_path/'gold.csv', index=False)
    read = counting(monkeypatch)
    recipe = make_config(Recipe.fewgen(), NEWS, pocket, 4, gold=str(tmp_path/'gold.csv'), sampling=Sampling(9))
    produce(check(recipe, pocket), tmp_path/'run')
    assert read == {'gold': 2} and len(list(read_rows(tmp_path/'run'))) == 4     # once to write the recipe, once to read it


@pytest.mark.parametrize('gold', [FRAME, Dataset.from_pandas(FRAME), FRAME.to_dict('records')], ids=['frame', 'Dataset', 'dicts'])
def test_rows_in_memory_are_gold_and_the_run_keeps_them(tmp_path, pocket, gold):
    FRAME.to_csv(tmp_path/'gold.csv', index=False)
    def texts(name, **options): return [row['text'] for row in generate('ag_news', 4, 'fewgen', out=tmp_path/name, teacher=pocket, max_new_tokens=9, **options)]
    assert texts('file', gold=tmp_path/'gold.csv') == texts('run', gold=gold)
    assert read_recipe(tmp_path/'run')['gold'] == 'kept in the run' and len((tmp_path/'run'/'gold.jsonl').read_text().splitlines()) == 80
    produce(read_recipe(tmp_path/'run'), tmp_path/'run', pocket)                 # from the folder alone, as `synthlab resume` does
    with pytest.raises(production.RunError, match='examples'): texts('run', gold=FRAME[::-1])
    with pytest.raises(ValueError, match='handed over in Python'): check(read_recipe(tmp_path/'run'), pocket)


# ---- repeated texts

def distinct(rows): return len({' '.join(row['text'].casefold().split()) for row in rows})


@pytest.mark.long
def test_repeated_texts_are_rejected_and_replaced(tmp_path, pocket):
    rows = generate('ag_news', 12, 'simprompt', out=tmp_path/'cold', teacher=pocket, temperature=0)
    every = list(read_rows(tmp_path/'cold', None))
    assert len(rows) == distinct(rows) == 4                                      # at temperature 0 it has one text for each label
    assert len(every) == 48 and Counter(row['reason'] for row in every)['repeats an earlier row'] == 44          # within four times what was asked
    warm = generate('ag_news', 12, 'simprompt', out=tmp_path/'warm', teacher=pocket)
    assert len(warm) == distinct(warm) == 12


def test_they_may_be_kept(tmp_path, pocket):
    rows = generate('ag_news', 12, 'simprompt', out=tmp_path/'run', teacher=pocket, temperature=0, duplicates='keep')
    assert len(rows) == 12 and distinct(rows) == 4 and read_recipe(tmp_path/'run')['duplicates'] == 'keep'


class Parrot(TextTeacher):
    "Says the same few texts by turns, some of them in capitals."
    identity = {'name': 'parrot', 'revision': '1'}

    def __init__(self, texts): self.texts, self.asked = texts, 0

    def token_bound(self, request): return 10

    def ask(self, requests):
        for place, request in enumerate(requests):
            if request is None: continue
            self.asked += 1
            yield place, Answer(self.texts[request.name % len(self.texts)], 'stop', prompt_tokens=1, completion_tokens=1)


FOX = 'the quick brown fox jumps over the lazy dog near the old stone bridge by the river'


@pytest.mark.parametrize('how, kept', [('exact', 3), ('words', 2), ('keep', 6)])
def test_what_counts_as_repeated(tmp_path, how, kept):
    spoken = [FOX, FOX.upper(), f'{FOX}s', 'Rain fell on Oslo all day long.', FOX, 'rain  fell on oslo all day long.']
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        rows = generate('ag_news', 6, 'simprompt', out=tmp_path/'run', teacher=Parrot(spoken), duplicates=how, budget=6, proportions=WORLD)
    assert len(rows) == kept


def test_copies_of_test_rows_are_rejected(tmp_path):
    spoken = [FOX, 'Rain fell on Oslo all day long.', 'Snow fell in Bergen all night long.']
    tests = pd.DataFrame({'text': [FOX.replace('river', 'lake')], 'label': ['World']})
    rows = generate('ag_news', 2, 'simprompt', out=tmp_path/'run', teacher=Parrot(spoken), decontaminate=tests, proportions=WORLD)
    assert sorted(row['text'] for row in rows) == sorted(spoken[1:])
    assert [row['reason'] for row in read_rows(tmp_path/'run', None) if row['status'] == 'rejected'] == ['copies a row of decontaminate']
    produce(read_recipe(tmp_path/'run'), tmp_path/'run', Parrot(spoken))          # the folder has all that it needs
    with pytest.raises(production.RunError, match='decontaminated'):
        generate('ag_news', 2, 'simprompt', out=tmp_path/'run', teacher=Parrot(spoken), decontaminate=['another text'], proportions=WORLD)


def test_a_run_that_goes_on_knows_its_earlier_rows(tmp_path):
    spoken = [f'Text number {i % 5} of them.' for i in range(20)]
    whole = generate('ag_news', 5, 'simprompt', out=tmp_path/'whole', teacher=Parrot(spoken), proportions=WORLD, budget=20)
    for most in (2, 4, None): part = generate('ag_news', 5, 'simprompt', out=tmp_path/'run', teacher=Parrot(spoken), proportions=WORLD, budget=20, max_calls=most)
    assert part.to_dict() == whole.to_dict() and distinct(part) == 5


def test_screens_are_those_that_there_are():
    with pytest.raises(ValueError, match='exact, words, meaning'): make_screen('semantic')


# ---- a teacher of one's own

def test_a_teacher_of_ones_own_is_recorded_as_such(tmp_path):
    teacher = ScriptedTeacher()
    generate('sst2', 4, 'fewgen', out=tmp_path/'run', teacher=teacher)
    recipe = read_recipe(tmp_path/'run')
    assert recipe['teacher'] == {'kind': 'own', 'class': 'ScriptedTeacher', **teacher.identity}
    with pytest.raises(ValueError, match=r'pass it, as in teacher=ScriptedTeacher\(...\)'): produce(recipe, tmp_path/'run')
    assert produce(recipe, tmp_path/'run', ScriptedTeacher()).rows == 0
    old = recipe | {'teacher': {'kind': 'chat', **teacher.identity}}              # as it was recorded before
    with pytest.raises(ValueError, match='pass it'): check(old)


# ---- which code made the rows

def test_docstrings_comments_and_layout_do_not_count():
    plain = 'def f(x):\n    return 2*x\n\nclass A:\n    def g(self): return 1\n'
    told = '"A module."\ndef f(x):\n    "Double it."\n    # twice\n    return 2 * x\n\n\nclass A:\n    """A class."""\n\n    def g(self):\n        """One."""\n        return 1\n'
    assert code_without_words(told) == code_without_words(plain) != code_without_words(plain.replace('2*x', '3*x'))
    assert 'pass' in code_without_words('def f():\n    "Only words."')


def test_the_fingerprint_is_that_of_what_the_code_does(monkeypatch):
    before, source = derivation(), inspect.getsource
    derivation.cache_clear()
    monkeypatch.setattr(production.inspect, 'getsource', lambda module: f'"New words."\n# and more\n{source(module)}')
    assert derivation() == before
    derivation.cache_clear()
    monkeypatch.setattr(production.inspect, 'getsource', lambda module: f'{source(module)}\nx = 1')
    changed = derivation()
    derivation.cache_clear()
    assert changed != before


# ---- names that are wrong are told before anything heavy is loaded

NAMES = ['generate ag_nws', 'generate ag_news --gold nowhere.csv', 'generate ag_news --recipe nowhere.toml', 'generate ag_news --recipe corsynth', 'generate nowhere.toml',
         'generate ag_news --recipe targen --seeds-from nowhere.csv', 'generate ag_news --prices nowhere.toml', 'generate ag_news --fork nowhere', 'generate ag_news --decontaminate nowhere.csv',
         'bake-off ag_news --recipes fewgen,nowhere.toml --budget 100', 'bake-off ag_nws --recipes fewgen --budget 100']


def test_a_mistyped_name_is_told_without_torch(tmp_path):
    for words, (status, said, heavy) in run_light([f'{words} --out {tmp_path/"run"}' for words in NAMES], ['torch'], cwd=tmp_path).items():
        assert status == 2 and not heavy and ('nowhere' in said or 'did you mean' in said), (words, status, heavy, said)


def test_the_command_line_knows_the_presets():
    from synthlab.cli.main import PRESET_NAMES
    assert PRESET_NAMES == tuple(PRESETS)


def test_a_report_knows_the_demonstrations_that_the_run_keeps(tmp_path, pocket):
    from synthlab.measure.quality import evaluate, shown_texts
    generate('ag_news', 4, 'fewgen', gold=FRAME, out=tmp_path/'run', teacher=pocket, max_new_tokens=9)
    rows = list(read_rows(tmp_path/'run'))
    shown = shown_texts(read_recipe(tmp_path/'run'), rows, tmp_path/'run')
    assert len(shown) == len({demo for row in rows for demo in row['demos']}) and set(shown) <= set(FRAME.text)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        warnings.filterwarnings('ignore', message='.*few')
        evaluate(tmp_path/'run', student=None, progress=False)


def test_rows_that_mean_the_same_are_rejected(tmp_path):
    spoken = ['Oil prices fell sharply on Tuesday.', 'Oil prices fell sharply Tuesday.', 'A late goal won the cup for Porto.']
    rows = generate('ag_news', 2, 'simprompt', out=tmp_path/'run', teacher=Parrot(spoken), duplicates='meaning', proportions=WORLD)
    assert sorted(rows['text']) == sorted([spoken[0], spoken[2]])
    ended = Counter(row['reason'] for row in read_rows(tmp_path/'run', None))
    assert ended['means the same as an earlier row'] == 1


@pytest.mark.parametrize('recipe', ['fewgen', 'simprompt', pytest.param('targen', marks=pytest.mark.long)])
def test_the_most_rows_of_a_pass_hold_for_every_recipe(tmp_path, monkeypatch, recipe):
    from synthlab.decode import loop as decoding
    most, step = [], decoding.step
    def watched(teacher, token_ids, cache): most.append(len(token_ids)); return step(teacher, token_ids, cache)
    monkeypatch.setattr(decoding, 'step', watched)
    generate('sst2', 6, recipe, out=tmp_path/'run', max_rows=2)
    assert max(most) == 2 and read_recipe(tmp_path/'run')['machine']['max_rows'] == 2


@pytest.mark.parametrize('wrong, said', [({'n': '4'}, 'n must be a whole number'), ({'seed': 'a'}, 'seed must be a whole number'), ({'task': ['spam', 'ham']}, r'labels=\["spam", "ham"\]'),
                                         ({'proportions': {'World': 1, 'Sport': 1}}, "did you mean 'Sports'"), ({'device': 'cuda:77'}, "device 'cuda:77' cannot be used here")])
def test_what_a_newcomer_mistypes_is_told_plainly(tmp_path, wrong, said):
    with pytest.raises(ValueError, match=said): generate(**{'task': 'ag_news', 'n': 4, 'out': tmp_path/'run', **wrong})


def test_labels_that_are_left_out_get_no_rows(tmp_path, pocket):
    rows = generate('ag_news', 4, 'fewgen', out=tmp_path/'run', teacher=pocket, max_new_tokens=9, proportions={'sports': 3, 'World': 1})
    assert Counter(rows['label']) == {'Sports': 3, 'World': 1}


@pytest.mark.parametrize('texts', [pd.Series([FOX]), [FOX], pd.DataFrame({'text': [FOX]}), FRAME.text.to_numpy()[:1]], ids=['Series', 'list', 'frame without labels', 'array'])
def test_copies_come_in_any_form(texts):
    from synthlab.run.screening import read_copies
    assert len(read_copies(texts, NEWS)) == 1


def test_what_is_no_run_and_no_references_is_told():
    import synthlab
    with pytest.raises(TypeError, match='folder of a run, got a DataFrame'): synthlab.show_run(FRAME)
    with pytest.raises(ValueError, match='texts by name'): synthlab.novelty(['a', 'b'], ['c'])


def test_a_recipe_that_is_written_by_itself_reads_the_test_rows(tmp_path):
    def parrot(): return Parrot([FOX, 'Rain.', 'Snow.'])
    recipe = make_config(Recipe.simprompt(), NEWS, parrot(), 2, decontaminate=[FOX], proportions=WORLD)
    with pytest.raises(ValueError, match='handed over in Python'): check(recipe, parrot())           # no run keeps them yet
    produce(check(recipe, parrot(), copies=[FOX]), tmp_path/'run')
    assert sorted(row['text'] for row in read_rows(tmp_path/'run')) == ['Rain.', 'Snow.']
    assert produce(read_recipe(tmp_path/'run'), tmp_path/'run', parrot()).rows == 0
    with pytest.raises(ValueError, match='decontaminate has no rows'): make_config(Recipe.simprompt(), NEWS, parrot(), 2, decontaminate=[])
