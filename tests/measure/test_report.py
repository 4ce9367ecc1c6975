"The report is one file that holds whatever a model wrote, reads without scripts, and looks right in a browser."
import base64
import copy
import hashlib
import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from browser import CONTRAST, browser, find_browser
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st
from made_record import HOSTILE, LABELS, made_record, metric
from synthlab.measure.report import Comparison, RunView, _marked, report_html, show_run, visible, write_report

FORBIDDEN = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]')


@pytest.fixture(scope='module')
def soup(): return BeautifulSoup(report_html(made_record()), 'html.parser')


@pytest.fixture(scope='module')
def hostile(): return report_html(made_record(hostile=True))


def text_of(html): return BeautifulSoup(html, 'html.parser').text


# --- structure

def test_landmarks_headings_and_language(soup):
    assert soup.html['lang'] == 'en' and soup.title.text == 'demo-corrsynth'
    assert [len(soup.find_all(tag)) for tag in ('h1', 'main', 'nav', 'header', 'footer')] == [1]*5
    levels = [int(tag.name[1]) for tag in soup.find_all(re.compile('^h[1-6]$'))]
    assert levels[0] == 1 and all(after - before <= 1 for before, after in zip(levels, levels[1:])), 'a level of headings is left out'


def test_links_and_labels_lead_somewhere(soup):
    ids = [tag['id'] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    named = [link['href'][1:] for link in soup.find_all('a')] + [label['for'] for label in soup.find_all('label')]
    named += [id for tag in soup.find_all(attrs={'aria-labelledby': True}) for id in tag['aria-labelledby'].split()]
    assert named and set(named) <= set(ids)
    assert {use['href'][1:] for use in soup.find_all('use')} <= set(ids)


def test_every_table_has_a_caption_and_scopes(soup):
    tables = soup.find_all('table')
    assert len(tables) > 8
    for table in tables:
        assert table.caption.text.strip()
        assert all(cell.get('scope') in ('col', 'row') for cell in table.find_all('th'))


def test_figures_have_words(soup):
    pictures = soup.find_all('svg', role='img')
    assert len(pictures) >= 9                                         # counts, length, calibration, map, PVI, and five planes
    for picture in pictures: assert picture.get('aria-label') or picture.title.text.strip() and picture.desc.text.strip()
    assert all(svg.get('aria-hidden') == 'true' for svg in soup.find_all('svg') if svg not in pictures)


def test_one_file_without_network_or_inline_code(soup):
    assert not soup.find_all(['link', 'iframe', 'object', 'embed', 'base'])
    addresses = [tag[key] for tag in soup.find_all(True) for key in ('src', 'href', 'action', 'data') if tag.has_attr(key)]
    assert all(address.startswith(('#', 'data:image/png')) for address in addresses)
    attributes = {key for tag in soup.find_all(True) for key in tag.attrs}
    assert not {key for key in attributes if key == 'style' or key.startswith('on')}


def test_policy_names_the_style_and_the_script_by_hash(soup):
    policy = soup.find('meta', attrs={'http-equiv': 'Content-Security-Policy'})['content']
    assert "default-src 'none'" in policy and 'unsafe' not in policy
    for tag, source in (('style', 'style-src'), ('script', 'script-src')):
        parts = soup.find_all(tag)
        assert len(parts) == 1
        digest = base64.b64encode(hashlib.sha256(parts[0].string.encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}'" in policy


def test_every_measure_is_there_with_value_interval_and_n(soup):
    record, text = made_record(), soup.text
    entries = [entry for part in record['sections'].values() for entry in part]
    assert len(soup.select('.metrics > tbody')) == sum('value' in entry for entry in entries)
    for entry in entries:
        if 'skipped' in entry: assert entry['skipped'] in text
        else: assert soup.find('dd', string=entry['name'])
    row = soup.find('span', class_='name', string='Self-BLEU').find_parent('tbody').text
    assert '0.312' in row and '0.300 – 0.324' in row and 'n = 96' in row and 'Lower is better.' in row and 'method1' in row


def test_counts_that_do_not_add_up_are_said():
    record = made_record(figures=False)
    assert 'do not add up' not in report_html(record)
    record['counts']['candidates'] += 1
    assert 'The counts do not add up: 121 texts were written, 120 are accounted for.' in report_html(record)


def test_headline_says_how_good_the_judge_is(soup):
    shown = {div.dt.text: div.dd.text for div in soup.select('.headline div')}
    assert shown['90.6%'].endswith('says a classifier, which is right on 88.4% of gold')
    assert shown['74.1%'].endswith('on as many gold rows, 82.3%')


def test_worst_copies_show_both_texts(soup):
    pair = soup.find('section', id='memorisation').find('ol', class_='pairs').li
    first, second = (p.text for p in pair.find_all('p', class_='text'))
    assert second.startswith(first[:-1]) and 'cosine 0.970' in pair.text


def test_gold_beside_the_value_gets_a_column(soup):
    row = soup.find('span', class_='name', string='Vendi score').find_parent('tr')
    assert '57.9' in row.find('td', class_='gold').text and len(row.find_all('circle')) == 0        # no scale with ends
    assert not soup.find('section', id='fidelity').find('td', class_='gold')


# --- the least and the odd

def test_a_record_with_nothing_measured():
    record = made_record() | {'sections': {}, 'projection': None, 'samples': {}, 'provenance': {}}
    soup = BeautifulSoup(report_html(record), 'html.parser')
    assert len(soup.select('.skipped')) == 5 and 'holds no samples' in soup.text


def test_odd_entries_break_nothing():
    record = made_record(figures=False)
    record['sections'] = {'diversity': [metric('empty', None), metric('same', 1., 0.), {'name': 'bare', 'value': 2, 'n': 3}, metric('deep', .5, a={'b': {'c': {'d': [1, {'e': []}]}}}, mixed=[1, 'two', None, [3]], none=None)],
                          'my own': [metric('mine', 3.)]}
    record['counts'] = {'asked': 0, 'candidates': 0, 'accepted': {}, 'rejected': {}, 'failed': {}}
    text = text_of(report_html(record))
    assert 'came out without a value' in text and 'My own' in text


@pytest.mark.parametrize('labels', [('one',), [f'label {i}' for i in range(77)]], ids=['one label', '77 labels'])
def test_few_and_many_labels(labels):
    html = report_html(made_record(n=1000, labels=labels, samples=30))
    assert len(html) < 5e6
    if len(labels) > 24: assert '77² entries' in html and 'The first 11 of 77 labels' in html


def test_input_is_not_changed():
    record = made_record()
    before = copy.deepcopy(record)
    report_html(record)
    assert record == before


@pytest.mark.parametrize('given, message', [([], 'at least one'), ([None], 'got NoneType'), ({'schema': 1}, 'lacks synthlab'), (made_record() | {'schema': 9}, 'schema 9')])
def test_what_is_no_record_is_refused(given, message, tmp_path):
    with pytest.raises(ValueError, match=message): write_report(given, tmp_path/'page.html')
    assert not list(tmp_path.iterdir())


def test_imports_without_torch_and_matplotlib():
    code = "import sys, synthlab.measure.report; assert not {'torch', 'transformers', 'datasets', 'matplotlib', 'pandas'} & sys.modules.keys()"
    subprocess.run([sys.executable, '-c', code], check=True)


# --- hostile text

@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_marked_text_reads_back_as_the_visible_text(text):
    html = _marked(text)
    assert not FORBIDDEN.search(html)
    assert BeautifulSoup(f'<pre>{html}</pre>', 'html.parser').pre.text == visible(text)
    assert {tag.name for tag in BeautifulSoup(html, 'html.parser').find_all(True)} <= {'span'}


def test_hostile_text_adds_no_element(hostile):
    hostile.encode()                                                  # no lone surrogate
    assert not FORBIDDEN.search(hostile)
    soup = BeautifulSoup(hostile, 'html.parser')
    assert len(soup.find_all('script')) == len(soup.find_all('style')) == len(soup.find_all('main')) == 1
    assert not soup.find_all('img') and not soup.find_all(onerror=True)


def test_hostile_text_is_shown(hostile):
    shown = {p.text for p in BeautifulSoup(hostile, 'html.parser').select('.samples p.text')}
    for text in HOSTILE:
        if len(text) < 1000: assert visible(text) in shown or visible(text).strip() in {s.strip() for s in shown}
    assert 'x'*1200 in shown and 'cut: 10,000 characters in all' in hostile


def test_svg_in_the_page_is_whole(hostile):
    found = re.findall(r'<svg viewBox.*?</svg>', hostile, re.S)
    assert len(found) >= 9
    for svg in found: ElementTree.fromstring(svg)


def test_notebook_view_of_a_hostile_record():
    soup = BeautifulSoup(RunView(made_record(hostile=True))._repr_html_(), 'html.parser')
    assert not soup.find_all(['script', 'img']) and not soup.find_all('style')


# --- size

def test_a_hundred_thousand_rows_stay_small(tmp_path):
    record = made_record(n=100_000, samples=25_000)
    large = record['sections']['student'][-1]['details']
    large['values'], large['gold values'] = [i/1e5 for i in range(100_000)], [.5]*7600
    path = write_report(record, tmp_path)
    assert path.name == 'report.html' and path.stat().st_size < 10e6
    assert '150 of 25,000 rows' in path.read_text(encoding='utf-8')


def test_rows_that_swell_when_escaped_stay_small():
    record = made_record(samples=1, figures=False)
    record['samples'] = {label: [{'id': None, 'text': '\u202e"\x00'*1000, 'group': None}]*1000 for label in LABELS}
    assert len(report_html(record).encode()) < 10e6


# --- several datasets

@pytest.fixture(scope='module')
def runs(): return [made_record('fewgen', seed=1, shift=.08, delta=1.0), made_record('corrsynth'), made_record('corrsynth', seed=2, shift=.01, delta=.5)]


@pytest.fixture(scope='module')
def compared(runs):
    pytest.importorskip('synthlab.measure.evaluate')
    return BeautifulSoup(report_html(runs), 'html.parser')


def cells(soup, title): return soup.find('span', class_='name', string=title).find_parent('tr').select('td:not(.n)')


def test_verdicts_side_by_side(compared):
    first, best, close = cells(compared, 'Distinct n-grams')
    assert (best.find(class_='verdict').text, close.find(class_='verdict').text, first.find(class_='verdict').text) == ('best', 'within noise', 'worse by 0.080')
    assert [cell['class'] for cell in (first, best, close)] == [['worse'], ['best'], ['noise']]


def many_labels(n=77):
    "A record of many labels; the last label of all is the worst by far."
    labels = [f'topic {i}' for i in range(n)]
    record = made_record('many', 20*n, labels, figures=False)
    record['counts']['accepted'] |= {labels[-1]: 1}
    preserved = next(entry for entry in record['sections']['fidelity'] if entry['name'] == 'label_preservation')
    preserved['details']['per label'] = {label: {'share': .9 - .8*(label == labels[-1]), 'low': .1, 'high': .95, 'n': 20} for label in labels}
    record['provenance']['recipe']['task'] |= {'labels': [{'name': label, 'description': f'Texts about {label}.'} for label in labels]}
    return record


def test_tables_of_77_labels_show_the_worst_and_fold_the_rest():
    soup = BeautifulSoup(report_html(many_labels()), 'html.parser')
    def tables(title): return [table for table in soup.select('table.plain') if table.caption.contents[0].strip() == title]
    for title in ('Accepted, by label', 'per label', 'F1 by label'):
        shown, folded = tables(title)
        assert len(shown.tbody('tr')) == 30 and len(folded.tbody('tr')) == 47 and folded.find_parent('details').summary.text.startswith('47 more'), title
        assert 'of 77' in shown.caption.text and 'lowest by' in shown.caption.text
        if title != 'F1 by label': assert shown.tbody.th.text == 'topic 76'
    assert 'gold rows' in tables('F1 by label')[0].thead.text


def test_provenance_folds_the_definition_of_the_task():
    soup = BeautifulSoup(report_html(many_labels()), 'html.parser').find('section', id='provenance')
    recipe, definition = soup.select('table.words')
    assert definition.find_parent('details').summary.text == 'Definition of the task: 156 entries' and 'task.labels.76.description' in definition.text
    assert not recipe.find_parent('details') and 'method.delta' in recipe.text and 'task.labels' not in recipe.text


def test_a_tie_crowns_nobody(compared):
    assert {cell.find(class_='verdict').text for cell in cells(compared, 'Vendi score')} == {'within noise'}      # the same value in all
    near = [made_record(figures=False), made_record(shift=.004, figures=False)]
    assert [cell.find(class_='verdict').text for cell in cells(BeautifulSoup(report_html(near), 'html.parser'), 'Distinct n-grams')] == ['ahead, within noise', 'within noise']


def test_a_tie_crowns_nobody_in_a_notebook():
    same = Comparison([made_record('a', figures=False), made_record('b', figures=False)])
    assert '●' not in repr(same) and same._repr_html_().count('●') == 1
    worse = Comparison([made_record('a', figures=False), made_record('b', shift=.2, figures=False)])
    assert 'distinct_2: a 0.713 [0.702 – 0.724] ●; b 0.513' in repr(worse)


def test_runs_of_one_name_are_told_apart_and_recipes_compared(compared):
    heads = [head.text for head in compared.find('table', class_='compare').find_all('th', scope='col')]
    assert heads == ['Measure', 'fewgen', 'corrsynth (1)', 'corrsynth (2)', 'n'] and {cell.text for cell in compared.select('table.compare td.n')} >= {'96'}
    lines = {row.th.text: [cell.text for cell in row.find_all('td')] for row in compared.find('section', id='runs').select('tbody tr')}
    assert lines['method.delta'] == ['1.0', '0.9', '0.5'] and 'method.gamma' not in lines


def test_different_sizes_are_not_judged(compared, runs):
    soup = BeautifulSoup(report_html([runs[0], made_record(n=48, figures=False)]), 'html.parser')
    row = soup.find('span', class_='name', string='Vendi score').find_parent('tr')
    assert 'Not judged: n is 48, 96.' in row.text and not soup.select('#diversity .best')
    assert soup.select('#student .best')                              # scored on the same test rows


def test_compare_is_a_safe_page_too(compared):
    html = report_html([made_record(hostile=True), made_record(hostile=True, seed=1)])
    soup = BeautifulSoup(html, 'html.parser')
    assert len(soup.find_all('script')) == 1 and not soup.find_all('img') and not FORBIDDEN.search(html)


def test_show_run_reads_the_record(compared, tmp_path):
    (tmp_path/'metrics.json').write_text(json.dumps(made_record()))
    shown = show_run(tmp_path)
    assert repr(shown).startswith('demo-corrsynth: 96 rows were asked for.') and '90.6%' in shown._repr_html_()


# --- in a browser

@pytest.fixture(scope='module')
def page():
    if not find_browser(): pytest.skip('no browser: install chromium to look at the report')
    with browser() as page: yield page


@pytest.fixture(scope='module')
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pages')
    return {'plain': write_report(made_record(), folder/'plain.html'), 'hostile': write_report(made_record(hostile=True), folder/'hostile.html')}


@pytest.mark.parametrize('name', ['plain', 'hostile'])
@pytest.mark.parametrize('width', [1280, 768, 390, 320])
@pytest.mark.parametrize('dark', [False, True], ids=['light', 'dark'])
def test_page_fits_the_window_without_complaint(page, paths, name, width, dark):
    page.open(paths[name], width=width, dark=dark)
    assert page.ask('document.documentElement.scrollWidth') <= width
    assert not page.complaints() and not page.requests()
    assert page.ask('document.title') != 'broken'


@pytest.mark.parametrize('dark', [False, True], ids=['light', 'dark'])
def test_text_can_be_read(page, paths, dark):
    page.open(paths['plain'], dark=dark)
    assert page.ask(CONTRAST) == []


def test_dark_and_light_are_different_pages(page, paths, tmp_path):
    from PIL import Image
    def brightness(dark):
        page.open(paths['plain'], dark=dark)
        return Image.open(page.picture(tmp_path/'page.png', whole=False)).convert('L').resize((1, 1)).getpixel((0, 0))
    assert brightness(False) > 200 and brightness(True) < 60


def test_the_word_before_the_bidi_mark_stays_where_it_was(page, paths):
    page.open(paths['hostile'])
    assert page.ask("[...document.querySelectorAll('.samples .text')].every(p => getComputedStyle(p).unicodeBidi === 'isolate')")


SEARCH = """(async wanted => {
  const box = document.getElementById('query');
  box.value = wanted; box.dispatchEvent(new Event('input'));
  await new Promise(done => setTimeout(done, 200));
  const shown = [...document.querySelectorAll('.samples > li')].filter(row => row.checkVisibility());
  return [document.getElementById('found').textContent, shown.length, shown.every(row => row.textContent.toLowerCase().includes(wanted))];
})"""


def test_search_finds_folded_samples(page, paths):
    page.open(paths['plain'])
    before = page.ask("[...document.querySelectorAll('.samples > li')].filter(row => row.checkVisibility()).length")
    found, shown, right = page.ask(f"{SEARCH}('coach')")
    assert right and shown > 5 and found == f'{shown} of 96'             # five of each label are open; those folded were found too
    assert page.ask(f"{SEARCH}('no such words')")[:2] == ['0 of 96', 0]
    assert page.ask(f"{SEARCH}('')")[:2] == ['', before]


def test_search_by_label(page, paths):
    page.open(paths['plain'])
    page.ask("(() => { const label = document.getElementById('label'); label.value = '2'; label.dispatchEvent(new Event('change')); })()")
    assert page.ask("[...document.querySelectorAll('section.label')].filter(s => s.checkVisibility()).length") == 1
    assert page.ask("document.getElementById('found').textContent") == '24 of 96'


def test_without_scripts_the_samples_are_a_plain_list(page, paths):
    page.open(paths['plain'], scripts=False)
    page.call('Emulation.setScriptExecutionDisabled', value=False)
    assert page.ask("!document.getElementById('search').checkVisibility() && document.querySelectorAll('.samples > li').length") == 96


def test_keyboard_goes_to_the_content_first(page, paths):
    page.open(paths['plain'])
    page.press('Tab', 9)
    assert page.ask('document.activeElement.className') == 'skip'
    assert page.ask('document.activeElement.getBoundingClientRect().left') >= 0
    page.press('Enter', 13, '\r')
    assert page.ask('document.activeElement.id') == 'content'
    for _ in range(3): page.press('Tab', 9)
    assert page.ask("document.activeElement.matches(':focus-visible') && getComputedStyle(document.activeElement).outlineStyle") == 'solid'


def test_compare_fits_a_phone(page, runs, tmp_path):
    pytest.importorskip('synthlab.measure.evaluate')
    for name, several in {'plain': runs, 'hostile': [made_record(hostile=True), made_record(hostile=True, seed=1)]}.items():
        page.open(write_report(several, tmp_path/f'{name}.html'), width=390)
        assert page.ask('document.documentElement.scrollWidth') <= 390
        assert not page.complaints() and not page.requests()


def test_a_large_page_opens_quickly(page, tmp_path):
    path = write_report(made_record(n=100_000, samples=2000), tmp_path/'large.html')
    assert page.open(path, width=390) < 5                             # well under a second alone on a machine
