"A run is judged from its folder: counts that add up, a record, a page; several runs on equally many rows."
import json
from collections import Counter

import pytest
from synthlab.data import DataError, written_rows
from synthlab.evaluation import read_record
from synthlab.quality import compare, evaluate, gold_parts, make_student, run_subject, shown_texts
from synthlab.runs import Run, RunError, read_counts, read_recipe
from synthlab.tasks import load_task

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
    from synthlab.quality import judged_by_its_own
    for name in ('mine.csv', 'other.csv'): (tmp_path/name).write_text('text,label\nA joy.,World\n')
    with Run(tmp_path/'run', {'n': 1, 'gold': str(tmp_path/'mine.csv'), 'method': {'name': 'made'}, 'teacher': {'name': 'nobody'}, 'task': NEWS.model_dump(mode='json')}): pass
    assert judged_by_its_own(tmp_path/'run', tmp_path/'mine.csv')
    assert not any(judged_by_its_own(tmp_path/'run', gold) for gold in (tmp_path/'other.csv', None, 'agnews'))
