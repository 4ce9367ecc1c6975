"A run is judged from its folder: counts that add up, a record, a page; several runs on equally many rows."
import csv
import inspect
import json
import re
from collections import Counter

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict
from synthlab.measure.evaluate import cut_in_words, read_record
from synthlab.measure.quality import compare, evaluate, gold_parts, make_student, run_subject, shown_texts
from synthlab.measure.report import headline, report_html
from synthlab.measure.students import Probe, Student
from synthlab.run.produce import export_run
from synthlab.store.runs import Run, RunError, read_counts, read_recipe, read_rows
from synthlab.tasks.gold import DataError, read_table, written_rows
from synthlab.tasks.task import load_task

NEWS = load_task('ag_news')
TEXTS = list(written_rows(NEWS, 'test'))


def made(folder, rows, task=NEWS, **recipe):
    "A finished run of these rows, with one rejected beside each four."
    with Run(folder, {'n': len(rows), 'method': {'name': 'made'}, 'teacher': {'name': 'nobody'}, 'task': task.model_dump(mode='json')} | recipe) as run:
        for number in range(0, len(rows), 4):
            group = [{'id': r['id'], 'text': r['text'], 'label': r['label'], 'group': number, 'demos': ['ag_news/World/0'], 'status': 'accepted', 'reason': None}
                     for r in rows[number:number + 4]]
            run.add(number, [*group, group[0] | {'id': f'{number}x', 'text': '', 'status': 'rejected', 'reason': 'empty'}])
        run.finish()
    return folder


@pytest.fixture
def run(tmp_path): return made(tmp_path/'run', TEXTS[::2])


def test_a_run_gets_a_record_and_a_page(run):
    record = evaluate(run, student=None, out=run, progress=False)
    assert read_record(run/'metrics.json') == record
    assert '<html' in (run/'report.html').read_text(encoding='utf-8')
    counts = record['counts']
    assert counts['asked'] == 50 and counts['candidates'] == sum(counts['accepted'].values()) + counts['rejected']['empty'] == 63
    assert counts == {'asked': 50} | read_counts(run) and list(counts['accepted']) == list(NEWS.label_names)
    assert record['provenance']['recipe'] == read_recipe(run)


@pytest.mark.long
def test_a_comparison_says_which_rows_it_leaves_out(run, tmp_path):
    small = made(tmp_path/'small', TEXTS[:44:4])
    found = compare([run, small], student=None, progress=False, out=tmp_path/'page.html')
    assert [record['sizes']['rows'] for record in found] == [11, 11] and found[0]['sizes']['drawn_from'] == 50 and 'drawn_from' not in found[1]['sizes']
    words = cut_in_words(found)
    assert '11 of the 50 rows of run' in words and 'as many as small has' in words
    assert words in (tmp_path/'page.html').read_text() and words in repr(found) and words in found._repr_html_()
    assert '11 of the 50 rows' in report_html(evaluate(run, n=11, student=None, progress=False))
    assert cut_in_words(compare([run, run_subject(run)], student=None, progress=False)) == ''


def test_the_judge_says_what_it_has_learnt_from(run, tmp_path):
    gold = tmp_path/'gold.csv'
    pd.DataFrame([{'text': r['text'], 'label': r['label']} for r in TEXTS[::5]]).to_csv(gold, index=False)
    for given, which, n in [({}, 'demonstrations written into the task', 20), ({'gold_train': gold}, 'gold.csv', 20)]:
        record = evaluate(run, **given, student=None, progress=False)
        entry = next(e for e in record['sections']['fidelity'] if e['name'] == 'label_preservation')
        assert (entry['settings']['learnt_from'], entry['settings']['learnt from rows of']) == (n, which)
        assert any(f'that learnt from {n} rows ({which})' in words for _, words in headline(record))


def test_few_rows_are_learnt_by_a_probe(run):
    record = evaluate(run, progress=False, controls=False)
    entry = next(e for e in record['sections']['student'] if e['name'] == 'student_synthetic')
    assert entry['settings']['model'].startswith('Probe') and entry['settings']['chosen'] == 'because 50 rows are fewer than 300'
    assert 'fewer than 300 rows' in record['provenance']['student']
    assert isinstance(make_student('probe'), Probe) and make_student('auto', 'corrsynth').recipe_name == 'corrsynth'
    deep = evaluate(run, progress=False, controls=False, student='probe', deep=True)
    assert all('does not learn in epochs' in e['skipped'] for e in deep['sections']['student'] if e['name'] in ('pvi', 'cartography'))


def test_gold_from_a_file(run, tmp_path):
    gold = tmp_path/'gold.jsonl'
    gold.write_text('\n'.join(json.dumps({'text': r['text'], 'label': r['label']}) for r in TEXTS[:20]), encoding='utf-8')
    assert [len(part) for part in gold_parts(NEWS, gold)] == [20, 20] and gold_parts(NEWS, gold)[1]['text'] == written_rows(NEWS, 'train')['text']
    assert [len(part) for part in gold_parts(NEWS, gold, gold)] == [20, 20]
    record = evaluate(run, gold=gold, student=None, progress=False)
    found = {entry['name']: entry for section in record['sections'].values() for entry in section}
    assert record['sizes']['gold_test'] == 20 and 'value' in found['label_preservation']


def test_gold_with_other_labels_is_refused(run, tmp_path):
    gold = tmp_path/'gold.csv'
    gold.write_text('text,label\nrain,Weather\n', encoding='utf-8')
    with pytest.raises(DataError, match='Weather'): evaluate(run, gold=gold, student=None, out=run, progress=False)
    assert not (run/'metrics.json').exists()


def test_the_shown_demonstrations_are_found(run, tmp_path):
    rows = run_subject(run).rows
    assert shown_texts(read_recipe(run), rows) == [NEWS.label('World').demonstrations[0]]
    with pytest.warns(UserWarning, match='cannot be found'): assert shown_texts(read_recipe(run) | {'gold': str(tmp_path/'gone.csv')}, rows) == []


def test_runs_are_compared_on_equally_many_rows(run, tmp_path):
    other = made(tmp_path/'other', TEXTS[1::4])
    records = compare([run, other], student=None, out=tmp_path/'compare.html', progress=False)
    assert [record['sizes']['rows'] for record in records] == [25, 25]
    pairs = [entry['settings'] for record in records for entry in record['sections']['diversity'] if entry['name'] == 'distinct_2']
    assert pairs[0] == pairs[1] and (tmp_path/'compare.html').exists()


def test_bad_requests_are_refused(run, tmp_path):
    with pytest.raises(RunError, match='no run'): evaluate(tmp_path)
    with pytest.raises(ValueError, match='two runs'): compare([run])
    with pytest.raises(ValueError, match='twice'): compare([run, run])
    other = made(tmp_path/'films', list(written_rows(load_task('imdb'), 'test')), load_task('imdb'))
    with pytest.raises(ValueError, match='ag_news, imdb'): compare([run, other])
    with pytest.raises(ValueError): make_student('minilm', 'no such recipe')


def test_a_run_without_accepted_rows_is_refused(tmp_path):
    with Run(tmp_path/'run', {'n': 1, 'method': {'name': 'made'}, 'teacher': {'name': 'nobody'}, 'task': NEWS.model_dump(mode='json')}) as run:
        run.add(0, [{'text': '', 'label': 'World', 'status': 'rejected', 'reason': 'empty'}])
    with pytest.raises(RunError, match='no accepted rows'): evaluate(tmp_path/'run')


def test_a_sample_keeps_the_shares(run):
    assert Counter(row['label'] for row in run_subject(run).take(24).rows) == dict.fromkeys(NEWS.label_names, 6)


def test_a_run_that_is_judged_by_the_rows_it_has_learnt_from_is_told_so(tmp_path):
    from synthlab.measure.quality import judged_by_its_own
    for name in ('mine.csv', 'other.csv'): (tmp_path/name).write_text('text,label\nA joy.,World\n')
    with Run(tmp_path/'run', {'n': 1, 'gold': str(tmp_path/'mine.csv'), 'method': {'name': 'made'}, 'teacher': {'name': 'nobody'}, 'task': NEWS.model_dump(mode='json')}): pass
    assert judged_by_its_own(tmp_path/'run', tmp_path/'mine.csv')
    assert not any(judged_by_its_own(tmp_path/'run', gold) for gold in (tmp_path/'other.csv', None, 'agnews'))


# ---- rows from elsewhere

QUICK = dict(student=None, progress=False)


@pytest.fixture
def weighed(tmp_path):
    "A run whose rows have weights, exported as CSV."
    folder = made(tmp_path/'weighed', TEXTS[::2])
    with Run(folder, read_recipe(folder)) as run: run.weigh({(number, member): 1. + (number + member) % 3 for number in range(0, 50, 4) for member in range(min(4, 50 - number))}, [])
    [*files] = export_run(folder, 'csv', tmp_path/'export')
    return folder, next(path for path in files if path.suffix == '.csv')


def measures(record): return {section: [entry for entry in entries if entry['name'] != 'novelty_demonstrations'] for section, entries in record['sections'].items()}


def written(folder, rows, suffix):
    "Rows as a file."
    path, frame = folder/f'mine.{suffix}', pd.DataFrame(rows)
    write = {'csv': lambda: frame.to_csv(path, index=False), 'tsv': lambda: frame.to_csv(path, index=False, sep='\t'), 'parquet': lambda: frame.to_parquet(path), 'jsonl': lambda: frame.to_json(path, orient='records', lines=True)}
    write[suffix]()
    return path


@pytest.mark.long
def test_an_exported_file_measures_like_its_run(weighed):
    run, file = weighed
    student = Student('minilm', recipe='quick', epochs=1, device='cpu', dtype='float32')
    wanted, found = (evaluate(rows, task, student=student, seeds=[0], controls=False, progress=False) for rows, task in ((run, None), (file, 'ag_news')))
    def plain(record): return json.loads(re.sub(r'"seconds": \[[\d., ]*\]', '"seconds": 0', json.dumps(measures(record))))
    assert plain(found) == plain(wanted)
    assert [row['id'] for row in found['samples']['World']] == [row['id'] for row in wanted['samples']['World']]
    assert {entry['name']: entry for entry in found['sections']['distribution']}['mmd']['settings']['weighted'] is True
    assert (found['name'], found['task'], found['labels']) == (file.name, 'ag_news', wanted['labels'])


ROWS = [{'text': row['text'], 'label': row['label']} for row in TEXTS[::5]]


@pytest.fixture(scope='module')
def wanted(): return evaluate(ROWS, 'ag_news', **QUICK)


@pytest.mark.parametrize('suffix', ['csv', 'tsv', 'jsonl', 'parquet'])
def test_files_of_every_kind_measure_like_a_list(tmp_path, suffix, wanted):
    path = written(tmp_path, ROWS, suffix)
    assert measures(evaluate(path, NEWS, **QUICK) if suffix == 'csv' else evaluate(str(path), 'ag_news', **QUICK)) == measures(wanted)


def test_a_list_is_counted(wanted):
    assert wanted['counts'] == {'asked': None, 'candidates': 20, 'accepted': dict(Counter(row['label'] for row in ROWS)), 'rejected': {}, 'failed': {}}


@pytest.mark.long
def test_tables_in_memory_measure_like_a_list(wanted):
    classes = Dataset.from_list(ROWS).class_encode_column('label')
    for table in (pd.DataFrame(ROWS), Dataset.from_list(ROWS), classes, DatasetDict(train=classes), pd.DataFrame(ROWS).rename(columns={'text': 'headline'})):
        column = {'text': 'headline'} if 'headline' in getattr(table, 'columns', ()) else {}
        assert measures(evaluate(table, NEWS, **QUICK, **column)) == measures(wanted)


@pytest.mark.long
def test_gold_in_memory_is_as_good_as_a_file(run, tmp_path):
    rows = [{'text': row['text'], 'label': row['label']} for row in TEXTS[1::4]]
    wanted = measures(evaluate(run, gold=written(tmp_path, rows, 'csv'), **QUICK))
    for gold in (rows, pd.DataFrame(rows), Dataset.from_list(rows), DatasetDict(test=Dataset.from_list(rows))):
        found = evaluate(run, gold=gold, **QUICK)
        assert found['sizes']['gold_test'] == 25 and (measures(found) == wanted or isinstance(gold, DatasetDict))
    parts = DatasetDict(test=Dataset.from_list(rows), train=Dataset.from_list(list(written_rows(NEWS, 'train'))))
    assert evaluate(run, gold=parts, **QUICK)['sizes'] == {'rows': 50, 'gold_test': 25, 'gold_train': 20, 'compared': 50}
    with pytest.raises(DataError, match='of type Series, holds no rows'): evaluate(run, gold=pd.Series(['a']), **QUICK)


def test_without_a_task_the_labels_make_one(tmp_path):
    rows = [{'text': row['text'], 'label': row['label']} for row in TEXTS[::5]]
    bare, known = evaluate(rows, **QUICK), evaluate(rows, 'ag_news', **QUICK)
    assert (bare['task'], bare['labels']) == ('labels as given', sorted(NEWS.label_names))
    assert measures(bare)['diversity'][0]['value'] == measures(known)['diversity'][0]['value'] and 'no gold rows' in measures(bare)['fidelity'][0]['skipped']
    gold = [{'text': 'A new kind.', 'label': 'Weather'}, *rows]
    assert 'Weather' in evaluate(rows, gold=gold, **QUICK)['labels']
    with pytest.raises(DataError, match='not a column of labels; name the right one with label='): evaluate([{'text': str(n), 'label': f'{n}'} for n in range(300)], **QUICK)
    with pytest.raises(DataError, match="the labels do not make a task: .*'yes' is a name of 2 labels"): evaluate([{'text': 'a', 'label': 'yes'}, {'text': 'b', 'label': 'Yes'}], **QUICK)


def test_rows_with_several_fields_and_rows_that_are_written_out():
    rte = load_task('rte')
    fields = [{'premise': f'It rains in {n}.', 'hypothesis': f'{n} is wet.', 'label': n % 2} for n in range(12)]
    found = evaluate(fields, rte, **QUICK)
    texts = [{'text': row['text'], 'label': label} for label, rows in found['samples'].items() for row in rows]
    assert len(texts) == 12 and 'It rains in 3.' in ' '.join(row['text'] for row in texts)
    assert evaluate(texts, rte, **QUICK)['counts'] == found['counts']


def test_ids_need_not_be_unique(tmp_path):
    rows = [{'id': 'same', 'text': row['text'], 'label': row['label']} for row in TEXTS[::10]]
    assert evaluate(rows, NEWS, **QUICK)['samples']['World'][0]['id'].startswith('row-')


@pytest.mark.parametrize('change, message', [
    ({'label': 'Wether'}, "row 2: label 'Wether' is unknown"), ({'text': None}, 'row 2: text is empty'), ({'text': 3}, 'row 2: text is 3, of type int'), ({'weight': 'heavy'}, "row 2: weight is 'heavy'"),
    ({'weight': -1}, 'row 2: weight is -1'), ({'weight': float('inf')}, 'row 2: weight is inf')])
def test_a_fault_of_a_row_is_told_with_its_place(change, message):
    rows = [{'text': row['text'], 'label': row['label'], 'weight': 1} for row in TEXTS[:3]]
    rows[1] |= change
    with pytest.raises(DataError, match=re.escape(message)): evaluate(rows, NEWS, **QUICK)


def test_what_cannot_be_evaluated_is_told_at_once(tmp_path, run):
    (tmp_path/'mine.csv').write_text('text,label\nA joy.,World\n')
    for ask, message in [
        (lambda: evaluate(tmp_path/'mine.cvs', 'ag_news'), "no run and no file of this name is there; did you mean 'mine.csv'?"), (lambda: evaluate(tmp_path/'mine.csv', 'agnews'), "no task 'agnews'; did you mean 'ag_news'"),
        (lambda: evaluate(tmp_path/'mine.csv', 'mine.toml'), 'mine.toml'), (lambda: evaluate(run, 'imdb'), 'different tasks (imdb, ag_news)'), (lambda: evaluate(pd.Series(['a']), 'ag_news'), 'of type Series, holds no rows'),
        (lambda: evaluate(pd.DataFrame({'review': ['a'], 'stars': [1]}), 'ag_news'), "no column 'text'; the columns are 'review', 'stars'; call the right one 'text', or name it where that can be said (text="),
        (lambda: compare([tmp_path/'mine.csv', tmp_path/'yours.csv'], 'ag_news'), 'no run and no file'), (lambda: compare(pd.DataFrame()), 'needs a list of datasets, or a dict of them by name, got one DataFrame'),
        (lambda: compare('mine.csv'), 'got one str'), (lambda: compare(list(TEXTS)), 'got one list'), (lambda: compare(Dataset.from_list(list(TEXTS))), 'got one Dataset'),
        (lambda: compare([run]), 'two runs or more'), (lambda: compare([TEXTS, TEXTS]), 'named twice')]:
        with pytest.raises(ValueError, match=re.escape(message)): ask()
    with pytest.raises(TypeError, match='studnet'): evaluate(run, studnet=None)
    with pytest.raises(TypeError, match='path'): compare([run, run], path='x.html')
    assert not any(parameter.kind is parameter.VAR_KEYWORD for function in (evaluate, compare) for parameter in inspect.signature(function).parameters.values())


def test_a_record_shows_itself_and_is_written_where_one_says(run, tmp_path):
    record = evaluate(run, out=tmp_path/'pages/mine-report.html', **QUICK)
    assert read_record(tmp_path/'pages/mine-metrics.json') == record and '<html' in (tmp_path/'pages/mine-report.html').read_text(encoding='utf-8')
    assert not (run/'metrics.json').exists() and isinstance(record, dict)
    assert '<table>' in record._repr_html_() and repr(record).startswith('run (task ag_news): 50 rows were asked for.') and '\n  self_bleu: ' in repr(record)
    given = evaluate(TEXTS, NEWS, out=tmp_path/'given', **QUICK)
    page = (tmp_path/'given/report.html').read_text(encoding='utf-8')
    assert '100 rows, measured as they were given.' in page and 'rows were asked for' not in page and '100 rows, measured as they were given.' in given._repr_html_()


def test_runs_files_and_frames_are_compared_in_any_mixture(run, tmp_path):
    frame, names = pd.DataFrame([dict(row) for row in TEXTS[1::2]]), ['run', 'file', 'frame']
    file = written(tmp_path, [dict(row) for row in TEXTS[:40]], 'csv')
    found = compare({'run': run, 'file': file, 'frame': frame}, out=tmp_path/'compare.html', **QUICK)
    assert [record['name'] for record in found] == names and [record['sizes']['rows'] for record in found] == [40]*3
    assert {record['task'] for record in found} == {'ag_news'} and isinstance(found, list)
    html = found._repr_html_()
    assert all(name in html for name in names) and repr(found).splitlines()[0] == 'run, file, frame' and all(name in (tmp_path/'compare.html').read_text(encoding='utf-8') for name in names)
    assert [record['labels'] for record in compare([frame, [dict(row) for row in TEXTS[:60]]], **QUICK)] == [sorted(NEWS.label_names)]*2


# ---- a measure of one's own

@pytest.fixture
def own():
    "Two measures of a user's own, taken away again afterwards."
    from synthlab.measure.metric import add_measure, known_measures
    def first_words(texts, gold_texts): return len({t.split()[0] for t in texts} - {t.split()[0] for t in gold_texts})
    add_measure('asks', lambda texts: ['?' in text for text in texts], title='Asks something', meaning='Texts with a question.', unit='share', better='lower')
    add_measure('new_starts', first_words, title='New starts', section='distribution')
    yield
    for name in ('asks', 'new_starts'): known_measures().pop(name)


def test_a_measure_of_ones_own_is_in_the_record_the_page_and_the_comparison(own, run, tmp_path):
    record = evaluate(run, out=run, **QUICK)
    [asks], starts = record['sections']['own_measures'], record['sections']['distribution'][-1]
    texts = [row['text'] for row in TEXTS[::2]]
    assert (asks['name'], asks['n'], asks['better']) == ('asks', 50, 'lower') and asks['value'] == pytest.approx(sum('?' in t for t in texts)/50)
    assert len(asks['interval']) == 2 and asks['gold']['n'] == 50 and starts['name'] == 'new_starts' and starts['n'] == 50
    page = (run/'report.html').read_text(encoding='utf-8')
    assert all(words in page for words in ('Asks something', 'Texts with a question.', 'New starts', 'Own measures')) and 'Asks something' in record._repr_html_()
    asking = [{'text': f'{t}?', 'label': r['label']} for r in TEXTS[::2] for t in [r['text']]]
    both = compare({'run': run, 'asking': asking}, task='ag_news', out=tmp_path/'compare.html', **QUICK)
    assert 'asks: run 0% [0% – 0%] ●; asking 100% [100% – 100%]' in repr(both)
    assert 'Asks something' in (tmp_path/'compare.html').read_text(encoding='utf-8')


def test_a_measure_of_ones_own_that_needs_gold_is_skipped_without(own):
    record = evaluate([{'text': f'{word} {i}', 'label': word} for word in ('up', 'down') for i in range(3)], **QUICK)
    assert record['sections']['distribution'][-1] == {'name': 'new_starts', 'skipped': 'no gold rows were given: name them (--gold) to compare with real data'}
