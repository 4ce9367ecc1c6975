"Rows judged by people: the page holds whatever a model wrote, keeps what was judged, and the run takes it back without losing it."
import csv
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import synthlab.run.produce as production
from browser import CONTRAST, browser, find_browser
from bs4 import BeautifulSoup
from made_record import HOSTILE
from scripted_teacher import ScriptedTeacher
from synthlab import Recipe, evaluate, generate
from synthlab.cli import main as cli
from synthlab.measure.metric import wilson_interval
from synthlab.measure.report import number_text, report_html, visible
from synthlab.measure.dataset import LabelledDataset
from synthlab.measure.review import apply_review, embedded, make_sheet, read_export, review_html, write_review
from synthlab.store.runs import Run, RunError, open_run, read_recipe, read_rows

LABELS = ('World', 'Sports', 'Business')
MANY = tuple(f'{letter}{number} topic' for letter in 'abcdefg' for number in range(11))


def table(n, labels=LABELS, texts=None):
    return [{'id': f'r{i:03}', 'text': texts[i] if texts else f'Text number {i} on {labels[i % len(labels)]}.', 'label': labels[i % len(labels)]} for i in range(n)]


def made_run(path, rows, labels=LABELS, **more):
    "A finished run of these rows."
    recipe = {'n': len(rows), 'seed': 0, 'task': {'name': 'made', 'instruction': 'Write {{ label }}.', 'labels': [{'name': name} for name in labels]},
              'method': {'name': 'fewgen'}, 'teacher': {'name': 'toy'}}
    with Run(path, recipe) as run:
        run.add(0, [row | {'status': 'accepted', 'group': 0, 'member': i} for i, row in enumerate(rows)])
        run.finish({'calls': 1, 'cost': 2.5})
    return path


def export_of(said, **facts): return {'order': 'random', 'page': 'p', 'reviewer': '', **facts, 'reviews': [{'id': id, 'label_human': label, 'state': '' if label else 'rejected'} for id, label in said.items()]}


@pytest.fixture
def run(tmp_path): return made_run(tmp_path/'demo', table(12))


@pytest.fixture
def synthlab(tmp_path, monkeypatch, capsys):
    "Runs a command in an empty folder; tells its exit status and what it printed."
    monkeypatch.chdir(tmp_path)
    def command(*words):
        capsys.readouterr()
        status = cli.main([str(word) for line in words for word in (line.split() if isinstance(line, str) else line)])
        return status, *capsys.readouterr()
    return command


# ---- the page as a file

@pytest.mark.parametrize('blind', [False, True])
def test_hostile_rows_add_no_element_and_leave_the_policy_whole(blind, tmp_path):
    labels = ('</script><b>', 'a "label"')
    run, other = (made_run(tmp_path/str(i), rows, names) for i, (rows, names) in enumerate([(table(len(HOSTILE), labels, HOSTILE), labels), (table(12), LABELS)]))
    plain, page = (BeautifulSoup(review_html(make_sheet(rows, blind=blind)), 'html.parser') for rows in (other, run))
    count = lambda soup: sorted(tag.name for tag in soup.find_all(True))
    assert count(page) == count(plain) 
    assert [row['text'] for row in json.loads(page.find(id='data').string)['rows']] == [row['text'] for row in make_sheet(run).rows]
    assert not re.search('[<>&\u2028\u2029]', page.find(id='data').string)
    policy = page.find('meta', attrs={'http-equiv': 'Content-Security-Policy'})['content']
    assert "default-src 'none'" in policy and 'unsafe' not in policy and not page.find_all(['link', 'iframe', 'img', 'object'])
    assert not {key for tag in page.find_all(True) for key in tag.attrs if key == 'style' or key.startswith('on')}


def test_links_labels_and_headings_are_in_order():
    soup = BeautifulSoup(review_html(make_sheet(table(12))), 'html.parser')
    ids = [tag['id'] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    named = [link['href'][1:] for link in soup.find_all('a')] + [label['for'] for label in soup.find_all('label') if label.has_attr('for')]
    named += [id for key in ('aria-labelledby', 'aria-describedby') for tag in soup.find_all(attrs={key: True}) for id in tag[key].split()]
    assert set(named) <= set(ids)
    levels = [int(tag.name[1]) for tag in soup.find_all(re.compile('^h[1-6]$'))]
    assert levels[0] == 1 and all(after - before <= 1 for before, after in zip(levels, levels[1:]))
    assert all(cell.get('scope') for cell in soup.find_all('th')) and all(found.caption for found in soup.find_all('table'))


def test_embedded_data_reads_back():
    data = {'rows': [*HOSTILE, '\u2028\u2029', 0, None, True]}
    assert json.loads(embedded(data)) == data and not re.search('[<>&]', embedded(data)) and embedded(data).isascii()


def test_a_sample_keeps_the_shares_and_another_page_has_another_name(tmp_path):
    rows = table(300, ('World', 'World', 'Sports'))
    sheet = make_sheet(rows, n=30)
    assert [sum(row['label'] == label for row in sheet.rows) for label in ('World', 'Sports')] == [20, 10]
    assert len({make_sheet(rows, **options).data()['page'] for options in ({}, {'seed': 1}, {'n': 30}, {'blind': True})}) == 4
    assert make_sheet(rows[:4] + [rows[4] | {'text': 'Another text.'}]).data()['page'] != make_sheet(rows[:5]).data()['page']


def test_doubted_rows_come_first_and_the_page_says_what_that_means(tmp_path):
    rows = [row | {'label_probs': {label: .9 - .05*i if label == row['label'] else .1 for label in LABELS}} for i, row in enumerate(table(12))]
    run = made_run(tmp_path/'doubt', rows)
    sheet = make_sheet(run, n=3, order='doubt')
    assert [row['id'] for row in sheet.rows] == ['r011', 'r010', 'r009']
    assert 'no estimate' in BeautifulSoup(review_html(sheet), 'html.parser').find(class_='warn').text
    applied = apply_review(run, export_of({'r011': 'World', 'r010': 'Sports'}, order='doubt'))
    assert 'skipped' in applied.summary['accuracy'] and 'no estimate of label accuracy' in applied.lines()[-1]
    # rows in random order count, and those by doubt are said to be left out
    applied = apply_review(run, export_of({f'r00{i}': LABELS[i % 3] for i in range(4)}, page='q'))
    assert (applied.summary['accuracy']['n'], applied.summary['accuracy']['value']) == (4, 1.) and '2 rows judged in order of doubt' in applied.lines()[-1]


# ---- back into the run

def test_columns_reach_every_file_and_the_run_stays_finished(run, synthlab):
    said = {f'r{i:03}': LABELS[i % 3] for i in range(8)} | {'r008': 'World', 'r009': ''}
    apply_review(run, export_of(said, reviewer='anna'))
    with open_run(run) as opened: assert opened.finished and opened.facts['finished']['usage'] == {'calls': 1, 'cost': 2.5}
    status, out, _ = synthlab(f'export {run} --format csv')
    assert status == 0
    frames = [pd.read_json(run/'dataset.jsonl', lines=True), LabelledDataset.of_run(run).to_pandas(), pd.read_csv(run/'export'/'dataset.csv')]
    for frame in frames:
        assert frame['label'].tolist() == [LABELS[i % 3] for i in range(12)]                          # as they were asked
        assert frame['review_state'].fillna('').tolist() == ['confirmed']*8 + ['changed', 'rejected', '', '']
        assert frame['label_human'].fillna('').tolist() == [LABELS[i % 3] for i in range(8)] + ['World', '', '', '']
        assert frame['review_by'][0] == 'anna'
    card = (run/'README.md').read_text()
    assert '10 of 12 rows were judged by people (1 reviewer)' in card
    assert [row['review_state'] for row in read_rows(run) if row.get('label_human') == 'World' and row['label'] != 'World'] == ['changed']


@pytest.mark.parametrize('export, message', [
    (export_of({'x1': 'World', 'x2': 'World'}), 'is of other rows: none of its 2 is in'),
    (export_of({'r000': 'World', 'x2': 'World'}), "no row has the id 'x2'"),
    (export_of({'r000': 'Weather'}), "label 'Weather' is none of World, Sports, Business"),
    ({'reviews': [{'id': 'r000', 'hash': '0'*16, 'label_human': 'World'}, {'id': 'r001', 'label_human': 'World'}]}, 'r000 has another text there'),
    ({'reviews': [{'id': 'r000', 'label': 'World', 'label_human': 'Sports', 'state': 'confirmed'}]}, 'correct the state'),
    ({'reviews': [{'id': 'r000', 'state': 'perhaps'}]}, "state 'perhaps' is none of"),
    ({'reviews': [{'id': 'r000', 'state': 'skipped'}]*2}, 'r000 is judged twice'), (export_of({}), 'holds no judgement')])
def test_what_does_not_fit_is_refused_whole(run, export, message):
    before = (run/'dataset.jsonl').read_bytes(), list(read_rows(run))
    with pytest.raises(ValueError, match=re.escape(message)): apply_review(run, export)
    assert ((run/'dataset.jsonl').read_bytes(), list(read_rows(run))) == before


def test_a_page_of_another_run_with_the_same_ids_is_refused(run, tmp_path):
    other = made_run(tmp_path/'other', [row | {'text': row['text'].upper()} for row in table(12)])
    data = make_sheet(other).data()
    reviews = [{'id': row['id'], 'hash': row['hash'], 'label': row['label'], 'state': 'confirmed', 'label_human': row['label']} for row in data['rows']]
    with pytest.raises(ValueError, match='is of other rows'): apply_review(run, {'reviews': reviews})
    assert apply_review(other, {'reviews': reviews}).changes['new'] == 12


def test_a_second_export_replaces_the_first_and_says_what_changed(run):
    apply_review(run, export_of({'r000': 'World', 'r001': 'Sports', 'r002': 'World'}))
    applied = apply_review(run, export_of({'r000': 'World', 'r001': 'World'}))
    assert applied.changes == {'new': 0, 'removed': 1, 'changed': [('r001', 'Sports', 'World')], 'same': 1} and 'r001: Sports → World' in str(applied)
    rows = {row['id']: row for row in read_rows(run)}
    assert rows['r001']['review_state'] == 'changed' and rows['r002']['review_state'] is None and rows['r002']['label_human'] is None
    assert apply_review(run, export_of({'r005': 'World'}, page='another')).changes['removed'] == 0
    assert apply_review(run, export_of({'r000': 'World', 'r001': 'World'})).changes['same'] == 3                    # once more changes nothing


def test_reviewers_are_compared_in_words(run, tmp_path, synthlab):
    for who, other in (('anna', {}), ('ben', {'r003': 'Sports', 'r004': ''})):
        said = {f'r{i:03}': LABELS[i % 3] for i in range(10)} | other
        (tmp_path/f'{who}.json').write_text(json.dumps(export_of(said, reviewer=who)))
    status, out, err = synthlab(f'review {run} --apply anna.json --apply ben.json')
    assert status == 0, err
    assert 'anna and ben agree on 8 of 10 rows (80.0%' in out and "Cohen's kappa is 0.71: substantial" in out and 'disputed 2' in out
    assert 'the share is between 80.0% (none of them right) and 100% (all)' in out
    rows = {row['id']: row for row in read_rows(run)}
    assert (rows['r003']['review_state'], rows['r003']['label_human'], rows['r000']['review_by']) == ('disputed', None, 'anna, ben')
    shutil.copy('anna.json', 'again.json')
    status, _, err = synthlab(f'review {run} --apply anna.json --apply again.json')
    assert status == 2 and 'both judge 10 rows as anna' in err
    status, _, err = synthlab(f'review {run} --apply anna.json --apply ben.json --reviewer eve')
    assert status == 2 and 'apply them one by one' in err


def test_a_run_that_is_being_written_is_left_alone(run):
    with Run(run, read_recipe(run)), pytest.raises(RunError, match='is in use by'): apply_review(run, export_of({'r000': 'World'}))


def test_rows_that_are_made_anew_keep_their_judgements(tmp_path, monkeypatch):
    "Another version of the code that makes rows drops them all, and makes them again from the calls."
    teacher = ScriptedTeacher()
    made = generate('ag_news', n=4, recipe=Recipe.fewgen(), out=tmp_path/'run', teacher=teacher)
    said = dict(zip(made['id'], made['label']))
    apply_review(tmp_path/'run', export_of(said))
    before = (tmp_path/'run'/'dataset.jsonl').read_bytes()
    monkeypatch.setattr(production, 'derivation', lambda *kinds: 'of another version')
    production.produce(read_recipe(tmp_path/'run'), tmp_path/'run', teacher=teacher)
    with open_run(tmp_path/'run') as run: assert run.facts['derivation'] == 'of another version' and run.facts['reviewed']['rows'] == 4
    assert (tmp_path/'run'/'dataset.jsonl').read_bytes() == before


def test_rows_of_a_file_go_to_another_file(tmp_path, synthlab):
    rows = table(6, ('yes', 'no'), ['=1+1', 'two', 'three', 'four, five', 'six\nseven', 'eight'])
    pd.DataFrame(rows).assign(extra=range(6)).to_csv('mine.csv', index=False)
    status, out, err = synthlab('review mine.csv --rows 4 --blind')
    assert status == 0 and out.startswith('mine-review.html'), err
    Path('anna.csv').write_text('id,label_human,note\nr000,no,=cmd\nr001,no,\n')
    status, out, err = synthlab('review mine.csv --apply anna.csv')
    assert status == 0 and 'mine-reviewed.csv' in out, err
    frame = pd.read_csv('mine-reviewed.csv', keep_default_na=False)
    assert frame['text'].tolist() == [row['text'] for row in rows] and frame['extra'].tolist() == list(range(6))
    assert frame['review_state'].tolist() == ['changed', 'confirmed', '', '', '', ''] and frame['review_note'][0] == "'=cmd"
    assert pd.read_csv('mine.csv').columns.tolist() == ['id', 'text', 'label', 'extra']                       # untouched


# ---- in a browser

KEYS = {'Enter': (13, '\r'), 'Escape': (27, ''), 'ArrowLeft': (37, ''), 'ArrowRight': (39, ''), 'ArrowUp': (38, ''), 'ArrowDown': (40, '')}


@pytest.fixture(scope='module')
def tab():
    "One browser for all tests: its start takes most of a second."
    if not find_browser(): pytest.skip('no browser: install chromium to look at the page')
    with browser() as page: yield page


@pytest.fixture
def page(tab):
    "The browser with nothing judged; what a test has judged is forgotten after it."
    yield tab
    tab.ask('localStorage.clear()')


def press(page, *keys):
    for key in keys: page.press(key, *(KEYS[key] if key in KEYS else (ord(key.upper()), key)))


def text_of(page, id): return page.ask(f"document.getElementById('{id}').textContent")


def exported(page, folder, kind='json'):
    "The file that a press of the button downloads."
    folder.mkdir(exist_ok=True)
    before = set(folder.iterdir())
    page.call('Browser.setDownloadBehavior', behavior='allow', downloadPath=str(folder))
    page.ask(f"document.getElementById('{kind}').click()")
    for _ in range(200):
        if new := [path for path in set(folder.iterdir()) - before if path.suffix == f'.{kind}']: return new[0]
        page.ask('new Promise(done => setTimeout(done, 20))')
    raise AssertionError('nothing was downloaded')


def judged_by_keys(page, tmp_path, n, reload_at):
    "What a new user does with the run in runs/news: judge n rows in a browser, the last one rejected, and export; labels asked and given."
    address = tmp_path/'runs'/'news'/'review.html'
    page.open(address)
    data = json.loads(text_of(page, 'data'))
    names, asked = data['labels'], [row['label'] for row in data['rows']]
    # every fourth row gets another label than was asked for
    said = [names[(names.index(label) + (i % 4 == 3)) % len(names)] for i, label in enumerate(asked[:n - 1])]
    for label in said[:reload_at]: press(page, str(names.index(label) + 1))
    before = f'{reload_at} judged, {len(asked) - reload_at} left'
    assert text_of(page, 'count') == before
    page.open(address)
    assert (text_of(page, 'count'), text_of(page, 'place')) == (before, f'Row {reload_at + 1} of {len(asked)}')
    assert f'{reload_at} judgements from before' in text_of(page, 'said')
    for label in said[reload_at:]: press(page, str(names.index(label) + 1))
    press(page, 'r', 's', 'ArrowLeft', 'n')
    page.call('Input.insertText', text='cut off')
    press(page, 'Escape')
    assert text_of(page, 'count') == f'{n} judged, 1 skipped, {len(asked) - n - 1} left' and not page.complaints() and not page.requests()
    return asked, said, data['rows'][n]['id']


def whole_report(synthlab):
    "Record and page that the command writes."
    status, out, err = synthlab('evaluate runs/news --student none')
    assert status == 0 and 'human_accuracy' in out, err
    return json.loads(Path('runs/news/metrics.json').read_text()), Path('runs/news/report.html').read_text()


def its_own_part_of_the_report():
    "The same without the figures of other measures, which take most of the time."
    record = evaluate('runs/news', student=None, progress=False)
    own = [entry for entry in record['sections']['fidelity'] if entry['name'] == 'human_accuracy']
    record = {**record, 'sections': {'fidelity': own}, 'projection': None}
    return record, report_html(record)


def the_way_back(page, tmp_path, synthlab, n, reload_at, whole):
    "Judge by keys, export, apply, evaluate, and see the accuracy in the report."
    status, _, err = synthlab('review runs/news --blind')
    assert status == 0, err
    asked, said, skipped = judged_by_keys(page, tmp_path, n, reload_at)
    file = exported(page, tmp_path/'downloads')
    status, out, err = synthlab(f'review runs/news --apply {file}')
    right = sum(a == b for a, b in zip(said, asked))
    assert status == 0 and f'confirmed {right}' in out and f'{n + 1} new' in out, err
    record, page = whole_report(synthlab) if whole else its_own_part_of_the_report()
    [entry] = [entry for entry in record['sections']['fidelity'] if entry['name'] == 'human_accuracy']
    assert (entry['value'], entry['n'], tuple(entry['interval'])) == (right/n, n, wilson_interval(right, n))
    report = BeautifulSoup(page, 'html.parser')
    assert 'The asked label was hidden from the reviewers.' in report.find(id='fidelity').text and 'asked ↓ human →' in report.find(id='fidelity').text
    assert f'{number_text(right/n, "share")}' in report.find(class_='headline').text and 'of the rows that people judged' in report.find(class_='headline').text
    row = next(row for row in read_rows('runs/news') if row['id'] == skipped)
    assert (row['review_state'], row['review_note']) == ('skipped', 'cut off')


def test_a_new_user_judges_rows_by_keys(page, tmp_path, synthlab):
    made_run(tmp_path/'runs'/'news', table(8))
    the_way_back(page, tmp_path, synthlab, 5, 3, whole=False)


@pytest.mark.long
def test_a_new_user_judges_twenty_rows_that_a_model_wrote(page, tmp_path, synthlab):
    status, _, err = synthlab('generate ag_news --recipe fewgen --n 40 --out runs/news --max-new-tokens 12 --shots 1')
    assert status == 0, err
    the_way_back(page, tmp_path, synthlab, 20, 12, whole=True)


def test_hostile_texts_are_shown_as_text(page, tmp_path):
    labels = ('</b><i>one', '=two', "'-three")
    run = made_run(tmp_path/'hostile', table(len(HOSTILE), labels, HOSTILE), labels)
    page.open(write_review(run))
    shown, wanted = [], [visible(row['text']) for row in make_sheet(run).rows]
    for i in range(len(HOSTILE)):
        shown.append(text_of(page, 'text'))
        if i < 2:
            press(page, 'n')
            page.call('Input.insertText', text='=HYPERLINK("x")\n\'"</script>')
            press(page, 'Escape')
        press(page, '2')
    assert sorted(shown) == sorted(wanted) and page.ask('document.title') != 'broken'
    page.ask("document.getElementById('all').click()")
    assert page.ask("document.querySelectorAll('#lines tr').length") == len(HOSTILE) and page.ask("document.querySelectorAll('#rows script, #rows img').length") == 0
    assert not page.complaints() and not page.requests()
    as_json, as_csv = (read_export(exported(page, tmp_path/'files', kind)) for kind in ('json', 'csv'))
    assert as_json == as_csv and {line['label_human'] for line in as_json} == {'=two'} and {line['note'] for line in as_json} == {'=HYPERLINK("x")\n\'"</script>', ''}
    cells = [cell for line in csv.reader(next((tmp_path/'files').glob('*.csv')).open(encoding='utf-8-sig', newline='')) for cell in line]
    assert not [cell for cell in cells if cell.startswith(('=', '+', '-', '@'))]


def test_intervals_of_the_page_are_those_of_the_package(page, tmp_path):
    page.open(write_review(table(3), tmp_path/'page.html'))
    pairs = [[k, n] for n in (1, 2, 7, 20, 400) for k in sorted({0, 1, n//3, n//2, n - 1, n})]
    found = page.ask(f'{json.dumps(pairs)}.map(pair => wilson(...pair))')
    for pair, ends in zip(pairs, found): assert ends == pytest.approx(wilson_interval(*pair), abs=1e-12)


@pytest.mark.parametrize('labels, wanted', [(MANY[:10], {'0': 9, '7': 6}), (MANY, {'07': 6, '77': 76, '99': None, '4': None})], ids=[10, 77])
def test_digits_choose_among_many_labels(page, tmp_path, labels, wanted):
    page.open(write_review(table(100, labels), tmp_path/'page.html'))
    for keys, place in wanted.items():
        press(page, *keys)
        assert page.ask('Object.values(state.judged).map(entry => entry.label_human)') == ([] if place is None else [sorted(labels)[place]])
        if keys == '4': assert page.ask("[...document.querySelectorAll('#labels button')].filter(b => b.checkVisibility()).length") == 10     # 40 to 49
        else: press(page, *(['u'] if place is not None else []))


def test_labels_are_found_by_their_letters(page, tmp_path):
    page.open(write_review(table(100, MANY), tmp_path/'page.html'))
    press(page, '/')
    page.call('Input.insertText', text='C1')
    assert page.ask("[...document.querySelectorAll('#labels button')].filter(b => b.checkVisibility()).map(b => b.lastChild.textContent)") == ['c1 topic', 'c10 topic']
    press(page, 'Enter')
    assert page.ask('Object.values(state.judged)[0].label_human') == 'c1 topic' and page.ask('document.activeElement.id') == 'card'


def test_a_blind_page_shows_no_asked_label_until_it_is_told_to(page, tmp_path):
    write_review(table(4, ('zebra', 'llama'), ['one', 'two', 'three', 'four']), tmp_path/'page.html', blind=True)
    page.open(tmp_path/'page.html')
    def seen(): return page.ask("document.querySelector('main').innerText")
    press(page, '1', '1')
    assert not re.search('asked label:|confirmed: |changed: ', seen(), re.I) and 'Hidden for now' in seen()
    press(page, 't', 'Enter')                                                                        # nothing to confirm
    assert '2 judged' in text_of(page, 'count') and 'Asked label' not in page.ask("document.querySelector('#table').innerText")
    page.ask("document.getElementById('reveal').click()")
    assert re.search('confirmed: llama', seen()) and '50.0%' in text_of(page, 'agreed')
    press(page, '2')
    assert page.ask('Object.values(state.judged).map(entry => entry.blind)') == [True, True, False]


def test_undo_skip_and_the_next_open_row(page, tmp_path):
    page.open(write_review(table(4), tmp_path/'page.html'))
    press(page, '1', 's', 'ArrowRight', '2')
    assert (text_of(page, 'place'), text_of(page, 'count')) == ('Row 3 of 4', '2 judged, 1 skipped, 1 left')
    press(page, 'r')
    assert 'All rows are judged or skipped' in text_of(page, 'said')
    press(page, 'u', 'u')
    assert (text_of(page, 'place'), text_of(page, 'count')) == ('Row 4 of 4', '1 judged, 1 skipped, 2 left')
    page.ask("document.getElementById('clear').click(); document.getElementById('clear').click()")
    assert text_of(page, 'count') == '0 judged, 4 left'
    press(page, 'u')
    assert text_of(page, 'count') == '1 judged, 1 skipped, 2 left'


def test_pages_do_not_mix_and_an_export_can_be_imported(page, tmp_path):
    first, second = (write_review(table(6), tmp_path/f'{seed}.html', seed=seed) for seed in (0, 1))
    page.open(first)
    press(page, '1', '2', 's')
    said = [page.ask('asJson()'), page.ask('asCsv()')]
    page.open(second)
    assert text_of(page, 'count') == '0 judged, 6 left'
    for text in said:
        page.ask(f'take({json.dumps(text)})')
        assert text_of(page, 'count') == '2 judged, 1 skipped, 3 left' and 'Took 3 rows' in text_of(page, 'said')
        press(page, 'u')
        assert text_of(page, 'count') == '0 judged, 6 left'
    for text, words in [('{"reviews": 1}', 'no export of such a page'), ('no,csv', 'no export'), ('{"reviews": [{"id": "x", "state": "skipped"}]}', 'None of the rows'),
                        ('{"reviews": [{"id": "r000", "state": "confirmed", "label_human": "Weather"}]}', 'None of the rows')]:
        page.ask(f'take({json.dumps(text)})')
        assert words in text_of(page, 'said') and text_of(page, 'count') == '0 judged, 6 left'
    page.open(first)
    assert text_of(page, 'count') == '2 judged, 1 skipped, 3 left'


def test_keys_stay_out_of_fields_and_can_be_turned_off(page, tmp_path):
    page.open(write_review(table(4), tmp_path/'page.html'))
    page.ask("document.getElementById('reviewer').focus()")
    press(page, '1', 'r')
    assert page.ask('state.reviewer') == '1r' and text_of(page, 'count') == '0 judged, 4 left'
    page.ask("document.activeElement.blur(); document.getElementById('single').click()")
    press(page, '1', 'Enter')
    assert text_of(page, 'count') == '0 judged, 4 left'


def test_page_fits_and_can_be_read(page, tmp_path):
    "Also with texts that are hostile, 77 labels, and rows for two pages of the table."
    texts = [*HOSTILE, *(f'Text number {i}.' for i in range(101 - len(HOSTILE)))]
    page.open(write_review(made_run(tmp_path/'long', table(len(texts), MANY, texts), MANY)))
    press(page, '0', '1')
    for view in ('all', 'one'):
        page.ask(f"document.getElementById('{view}').click()")
        for width in (1280, 390, 320):
            page.call('Emulation.setDeviceMetricsOverride', width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
            assert page.ask('document.documentElement.clientWidth') <= width and page.ask('document.documentElement.scrollWidth') <= width
            assert page.ask("[...document.querySelectorAll('button.row')].filter(b => b.checkVisibility() && b.clientHeight > 40).length") == 0
        for scheme in ('dark', 'light'):
            page.call('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': scheme}])
            assert page.ask(f"matchMedia('(prefers-color-scheme: {scheme})').matches") and page.ask(CONTRAST) == []
    assert page.ask('document.activeElement.id') == 'card' and not page.complaints()


def test_a_long_text_is_read_from_its_start_and_scrolled_by_keys(page, tmp_path):
    page.open(write_review(table(3, texts=[f'{i}: ' + 'A long text goes on and on. '*300 for i in range(3)]), tmp_path/'page.html'))
    def top(): return page.ask("document.getElementById('text').scrollTop")
    press(page, 'ArrowDown', 'ArrowDown')
    below = top()
    press(page, 'ArrowUp')
    assert 0 < top() < below
    press(page, '1')
    assert (text_of(page, 'place'), top()) == ('Row 2 of 3', 0)
