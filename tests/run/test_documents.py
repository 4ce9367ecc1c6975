"Rows from documents: every row names the file and the page or line of its passage, a killed run goes on with the same rows, and changed documents are refused."
import json
import os
import re
import shutil
import signal
from collections import Counter

import pypdfium2
import pytest
from fault_server import FaultServer
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from scripted_teacher import ScriptedTeacher
from synthlab.cli.main import main
from synthlab.run.produce import make_config, produce, replay
from synthlab.run.recipe import Recipe
from synthlab.store.runs import RunError, read_rows
from synthlab.tasks.task import load_task

NOUNS = 'anchor barge canal dredger eddy ferry gangway harbour inlet jetty keel lantern mooring net oar pier quay rudder sail tide'.split()


def page(n): return f'Page {n} is about the {NOUNS[n]}. Whoever wants to see the {NOUNS[n]} comes on day {n} of the month.\nThe {NOUNS[n]} costs {n + 3} crowns, and is painted once a year.'


def fill(folder, pages=4, sections=3):
    "A PDF of several pages, and a folder of Markdown."
    (folder/'notes').mkdir(parents=True, exist_ok=True)
    with PdfPages(folder/'rules.pdf', metadata={'Title': 'Rules'}) as pdf:
        for n in range(pages):
            sheet = Figure()
            sheet.text(.05, .5, page(n), size=9)
            pdf.savefig(sheet)
    for name, start in (('east', 5), ('west', 10)):
        text = f'# The {name} side\n\n' + '\n'.join(f'## Part {n}\n\nThe *{NOUNS[n]}* lies at berth {n}, and {{{{ braces }}}} stay as they are.\nAsk for the [{NOUNS[n]}](http://x.y) at the office of the {name} side.\n' for n in range(start, start + sections))
        (folder/'notes'/f'{name}.md').write_text(text, encoding='utf-8')
    return folder


@pytest.fixture(scope='module')
def filled(tmp_path_factory): return fill(tmp_path_factory.mktemp('filled'))


@pytest.fixture
def docs(filled, tmp_path): return shutil.copytree(filled, tmp_path/'docs')


@pytest.fixture(scope='module')
def written(filled, tmp_path_factory):
    "A run of twenty rows from ten passages, and what its teacher was asked."
    out, teacher = tmp_path_factory.mktemp('written')/'run', ScriptedTeacher()
    return list(write(filled, out, 20, teacher)), teacher, out


def letters(text): return re.sub(r'\W+', '', text.casefold())


def check_sources(rows, docs):
    "Every row's claim, held against the file itself."
    for row in rows:
        passage, path = json.loads(row['seed_text'])['passage'], docs/row['source_file']
        if path.suffix == '.pdf':
            with pypdfium2.PdfDocument(path) as pdf: text = pdf[row['source_page'] - 1].get_textpage().get_text_bounded()
            assert row['source_line'] is None
        else:
            lines = path.read_text(encoding='utf-8').splitlines()[row['source_line'] - 1:]
            assert letters(passage.split()[0]) in letters(lines[0]) and row['source_page'] is None
            assert row['source_heading'].split(' > ')[0] == lines[0] or row['source_heading'].split(' > ')[0] in path.read_text(encoding='utf-8')
            text = re.sub(r'\(http[^)]*\)', '', '\n'.join(lines))
        assert letters(passage) in letters(text), row
        number, of = map(int, re.fullmatch(r'passage (\d+) of (\d+)', row['source_place']).groups())
        assert 1 <= number <= of


def write(docs, out, n=12, teacher=None, **options):
    return Recipe.targen(seeds_from=str(docs), correct='none', **options).generate('sst2', n=n, out=out, teacher=teacher or ScriptedTeacher())


def test_every_row_names_its_passage(filled, written):
    rows, _, out = written
    check_sources(rows, filled)
    used = Counter(row['seed_text'] for row in rows)
    assert len(used) == 10 and set(used.values()) == {2}                       # all once before one twice
    assert Counter(row['source_file'] for row in rows) == {'rules.pdf': 8, 'notes/east.md': 6, 'notes/west.md': 6}
    assert {row['source_file'] for row in rows[:3]} == {'rules.pdf', 'notes/east.md', 'notes/west.md'}
    assert {row['context'] for row in rows} == {'Rules', *(f'The {side} side > Part {n}' for side, start in (('east', 5), ('west', 10)) for n in range(start, start + 3))}
    card = (out/'README.md').read_text(encoding='utf-8')
    assert '| notes/east.md | 3 | 6 |' in card and '| rules.pdf | 4 | 8 |' in card and 'No real text was shown' not in card


def test_a_chat_teacher_is_given_the_passage_alone_and_as_data(written):
    rows, teacher, _ = written
    assert teacher.calls().keys() == {'write'}
    assert all(set(json.loads(row['seed_text'])) == {'passage'} for row in rows) and any('{{ braces }}' in row['seed_text'] for row in rows)
    for asked in teacher.asked: assert any(row['seed_text'] in asked.question and json.dumps(row['context']) in asked.question for row in rows)
    assert all('words of your own' in asked.question and 'word for word' not in asked.question for asked in teacher.asked)


def test_files_and_labels_are_not_tied(tmp_path):
    for name in 'ab':
        (tmp_path/'docs').mkdir(exist_ok=True)
        (tmp_path/'docs'/f'{name}.txt').write_text('\n\n'.join(f'Note {n} of {name} is about the {NOUNS[n]} and all that belongs to it {n}.\n' * 5 for n in range(20)), encoding='utf-8')
    rows = list(write(tmp_path/'docs', tmp_path/'run', 40, passage_words=60))
    pairs = Counter((row['source_file'], row['label_target']) for row in rows)
    assert len(pairs) == 4 and min(pairs.values()) >= 4


def test_the_seed_decides_the_order(filled):
    recipe = Recipe.targen(seeds_from=str(filled), correct='none')
    def order(**options): return [row['seed_text'] for row in recipe.generate('sst2', n=8, out=None, teacher=ScriptedTeacher(), **options)]
    assert order() == order(seed=0) != order(seed=1)


def config(docs): return make_config(Recipe.targen(seeds_from=str(docs), correct='none'), load_task('sst2'), ScriptedTeacher(), 14)


def mortal_session(docs, out):
    "Ends its own process at a request."
    teacher = ScriptedTeacher(faults=.2)
    answered = teacher.answered
    teacher.answered = lambda request: os.kill(os.getpid(), signal.SIGKILL) if len(teacher.asked) >= 7 else answered(request)
    produce(config(docs), out, teacher, watch=lambda groups, *_: groups)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no processes that share a beginning here')
def test_a_killed_run_goes_on_with_the_same_rows_also_without_the_documents(docs, tmp_path):
    whole, out, recipe = tmp_path/'whole', tmp_path/'run', config(docs)
    produce(recipe, whole, ScriptedTeacher(faults=.2))
    pid = os.fork()
    if not pid:
        try: mortal_session(docs, out)
        finally: os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL and (out/'documents.jsonl').exists()
    bare = shutil.copytree(out, tmp_path/'bare')
    for place in (out, bare):
        if place == bare: docs = docs.rename(tmp_path/'moved')
        done = produce(recipe, place, ScriptedTeacher(faults=.2))
        assert not done.shortfall and list(read_rows(place, None)) == list(read_rows(whole, None))
        check_sources(read_rows(place), docs)


def test_changed_documents_are_refused_by_name(docs, tmp_path):
    recipe = config(docs)
    with pytest.raises(Exception, match='gone'): produce(recipe, tmp_path/'run', ScriptedTeacher(dies_after=4))
    (docs/'notes'/'east.md').write_text('# Other\n\nSomething else is written here now, about the tide and the moon.\n', encoding='utf-8')
    (docs/'notes'/'more.txt').write_text('A further text of enough words, which was not there at first.', encoding='utf-8')
    with pytest.raises(ValueError, match=r'not those that the run began with \(notes/east.md \(changed\), notes/more.txt \(new\)\)'): produce(recipe, tmp_path/'run', ScriptedTeacher())
    with pytest.raises(RunError, match='documents'): produce(config(docs), tmp_path/'run', ScriptedTeacher())
    fill(docs)
    (docs/'notes'/'more.txt').unlink()
    (docs/'other.docx').write_text('Files that are not read may come and go.')
    assert not produce(recipe, tmp_path/'run', ScriptedTeacher()).shortfall
    kept = tmp_path/'run'/'documents.jsonl'
    kept.write_text(kept.read_text(encoding='utf-8').replace('berth 5', 'berth 55'), encoding='utf-8')
    shutil.rmtree(docs)
    with pytest.raises(ValueError, match='not those that the run began with'): produce(recipe, tmp_path/'run', ScriptedTeacher())
    kept.unlink()
    with pytest.raises(ValueError, match='bring them back'): produce(recipe, tmp_path/'run', ScriptedTeacher())


def test_a_row_is_replayed_after_the_documents_have_changed(docs, tmp_path):
    recipe = config(docs)
    produce(recipe, tmp_path/'run', ScriptedTeacher())
    (docs/'notes'/'east.md').write_text(f'# New\n\n{page(0)}', encoding='utf-8')
    for row in list(read_rows(tmp_path/'run'))[:2]:
        found = replay(tmp_path/'run', row['id'], ScriptedTeacher())
        assert found.same and found.stored == row['text'] and json.loads(row['seed_text'])['passage'].split()[3] in found.prompt


def test_passages_of_a_run_can_be_edited_and_used_again(docs, tmp_path):
    write(docs, tmp_path/'one', 4)
    lines = [json.loads(line) for line in (tmp_path/'one'/'documents.jsonl').read_text(encoding='utf-8').splitlines()]
    (tmp_path/'mine.jsonl').write_text('\n'.join(json.dumps(line | {'passage': line['passage'].replace('Page', 'Leaf')}) for line in lines if line['source_page']), encoding='utf-8')
    rows = list(write(tmp_path/'mine.jsonl', tmp_path/'two', 4))
    assert {row['source_file'] for row in rows} == {'rules.pdf'} and all('Leaf' in row['seed_text'] for row in rows)


def test_a_passage_becomes_the_field_of_a_task(tmp_path):
    (tmp_path/'docs').mkdir()
    (tmp_path/'docs'/'long.txt').write_text('\n\n'.join(' '.join(f'The {noun} was number {n} behind the {other} and the {third}, as every {noun} is near a {other}.' for n, (other, third) in enumerate(zip(NOUNS[k:k + 7], NOUNS[k + 5:]))) for k, noun in enumerate(NOUNS[:4])), encoding='utf-8')
    def script(asked): return {'question': f'is the {asked.key[:6]} in the book'} if asked.step == 'write' else None
    rows = list(Recipe.targen(seeds_from=str(tmp_path/'docs'), correct='none').generate('boolq', n=4, out=tmp_path/'run', teacher=ScriptedTeacher(script)))
    text = letters((tmp_path/'docs'/'long.txt').read_text(encoding='utf-8'))
    assert len(rows) == 4 and len({row['source_place'] for row in rows}) == 4
    for row in rows:
        fields = row['fields'] if isinstance(row['fields'], dict) else json.loads(row['fields'])
        assert fields['passage'] == json.loads(row['seed_text'])['passage'] and letters(fields['passage']) in text


@pytest.mark.parametrize('task, options, told', [
    ('wic', {}, 'documents are for tasks whose seed is one passage'), ('copa', {}, 'with at most 90 characters of premise'), ('boolq', {}, "no passage fits 'boolq'"),
    ('sst2', {'seeds_from': ''}, 'passage_words = 40 is for documents'), ('sst2', {'passage_words': -1}, 'passage_words must be')])
def test_what_cannot_be_is_refused_before_the_first_call(filled, tmp_path, task, options, told):
    teacher = ScriptedTeacher()
    with pytest.raises(ValueError, match=re.escape(told)):
        Recipe.targen(**{'seeds_from': str(filled), 'passage_words': 40, 'correct': 'none'} | options).generate(task, n=4, out=tmp_path/'run', teacher=teacher)
    assert not teacher.asked and not (tmp_path/'run').exists()


def test_the_command_with_a_server(docs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('OPENAI_API_KEY', 'sk-none')
    (docs/'table.xlsx').write_text('x')
    with FaultServer(answer=ScriptedTeacher().serve) as server:
        def asked(seeds, out): return main(['generate', 'sst2', '--recipe', 'targen', '--seeds-from', seeds, '--n', '10', '--out', out, '--base-url', server.url, '--teacher', 'm', '--correct', 'none'])
        assert asked('docs', 'run') == 0
    said = ' '.join(''.join(capsys.readouterr()).split())
    assert 'table.xlsx: .xlsx files are not read' in said and 'Written from 10 passages of 3 documents; rows from each: rules.pdf 4' in said
    rows = [json.loads(line) for line in (tmp_path/'run'/'dataset.jsonl').read_text(encoding='utf-8').splitlines()]
    assert len(rows) == 10
    check_sources(rows, docs)
    assert asked('docs/table.xlsx', 'no') == 2
    shutil.rmtree(docs/'notes')
    (docs/'rules.pdf').unlink()
    assert asked('docs', 'no') == 2
    assert 'nothing to read; 1 file was left out (table.xlsx' in ' '.join(''.join(capsys.readouterr()).split()) and not (tmp_path/'no').exists()
