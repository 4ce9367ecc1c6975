"Documents: what is read, what is left out and told, and how passages are cut."
import io
import os
import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from synthlab.tasks import documents
from synthlab.tasks.documents import (
    Block, cut_blocks, find_documents, is_documents, passage_seeds, read_documents, read_markdown, read_pdf, read_text, telling_words)
from synthlab.tasks.gold import DataError
from synthlab.tasks.strategy import Strategy
from synthlab.tasks.task import load_task

ENOUGH = 'This text has some more words than the eight that a passage needs.'


def pdf(*pages):
    "A PDF that matplotlib writes."
    data = io.BytesIO()
    with PdfPages(data) as file:
        for text in pages:
            sheet = Figure()
            sheet.text(.05, .5, text)
            file.savefig(sheet)
    return data.getvalue()


def locked():
    "A PDF that wants a password which nobody has."
    parts = ['<< /Type /Catalog /Pages 2 0 R >>', '<< /Type /Pages /Kids [] /Count 0 >>', f"<< /Filter /Standard /V 1 /R 2 /P -4 /O <{'ab'*32}> /U <{'cd'*32}> >>"]
    text, places = '%PDF-1.4\n', []
    for n, part in enumerate(parts, 1):
        places.append(len(text))
        text += f'{n} 0 obj\n{part}\nendobj\n'
    table = ''.join(f'{place:010d} 00000 n \n' for place in places)
    return f'{text}xref\n0 4\n0000000000 65535 f \n{table}trailer\n<< /Size 4 /Root 1 0 R /Encrypt 3 0 R /ID [<01> <01>] >>\nstartxref\n{len(text)}\n%%EOF\n'.encode()


@pytest.mark.parametrize('name, data, told', [
    ('a.pdf', locked(), 'needs a password: save a copy without one'), ('a.pdf', b'%PDF-1.7\nnothing', 'damaged (Failed to load document'), ('a.pdf', b'', 'damaged'),
    ('a.pdf', pdf(''), 'no text on its 1 page: if it is a scan, run a text recognition'), ('a.pdf', pdf(ENOUGH)[:600], 'damaged'), ('a.md', b'', 'empty'), ('a.txt', b' \n\n', 'empty'),
    ('a.txt', 'Grüße'.encode('latin-1'), 'not UTF-8 (byte 0xfc in line 1): save it as UTF-8'), ('a.txt', 'Grüße'.encode('utf-16'), 'UTF-16: save it as UTF-8'),
    ('a.txt', b'one\0two', 'no text, it holds NUL characters'), ('a.docx', b'PK', '.docx files are not read: save it as .txt, .md or .pdf'), ('notes', b'x', 'its name has no suffix: name it .txt, .md or .pdf'),
    ('.a.md', ENOUGH.encode(), 'hidden'), ('a.md', b'# Only a heading\n\nFew words.\n', 'nothing to read; 1 piece of fewer than 8 words was left out')])
def test_what_cannot_be_read_is_named_with_what_to_do(tmp_path, name, data, told):
    (tmp_path/name).write_bytes(data)
    with pytest.raises(DataError, match=re.escape(told)): read_documents(tmp_path)
    (tmp_path/'good.txt').write_text(ENOUGH, encoding='utf-8')
    found = read_documents(tmp_path)
    assert [passage.file for passage in found.passages] == ['good.txt']
    [doubt] = found.doubts()
    assert (name in doubt or found.short) and told.replace('nothing to read; ', '') in doubt


def test_links_are_not_followed(tmp_path):
    outside = tmp_path/'outside'
    outside.mkdir()
    (outside/'secret.txt').write_text(f'Secret. {ENOUGH}', encoding='utf-8')
    folder = tmp_path/'folder'
    folder.mkdir()
    (folder/'own.txt').write_text(ENOUGH, encoding='utf-8')
    (folder/'file.txt').symlink_to(outside/'secret.txt')
    (folder/'deep').symlink_to(outside)
    (folder/'loop').symlink_to(folder)
    found = read_documents(folder)
    assert [passage.file for passage in found.passages] == ['own.txt'] and found.left_out.keys() == {'file.txt', 'deep', 'loop'}
    assert read_documents(folder/'file.txt').passages[0].text.startswith('Secret')             # somebody has named it


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no named pipes here')
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path/'pipe.txt')
    assert find_documents(tmp_path) == ({}, {'pipe.txt': 'no ordinary file'})


def test_sizes_are_bounded(tmp_path, monkeypatch):
    for n in range(4): (tmp_path/f'{n}.txt').write_text(f'{n} {ENOUGH} {n}'*(n + 1), encoding='utf-8')
    monkeypatch.setattr(documents, 'MOST_BYTES', 150)
    found = read_documents(tmp_path, words=50)
    assert found.left_out.keys() == {'2.txt', '3.txt'} and 'divide it' in found.doubts()[0]
    monkeypatch.setattr(documents, 'MOST_CHARACTERS', 100)
    with pytest.raises(DataError, match='more than 100 characters of text; name a part of them'): read_documents(tmp_path, words=51)
    monkeypatch.setattr(documents, 'MOST_FILES', 3)
    with pytest.raises(DataError, match='more than 3 files; name a smaller folder'): read_documents(tmp_path)
    monkeypatch.setattr(documents, 'MOST_PAGES', 1)
    with pytest.raises(DataError, match='2 pages, more than 1: divide it'): read_pdf(pdf(ENOUGH, ENOUGH))


def test_a_changed_file_is_read_again(tmp_path):
    (tmp_path/'a.txt').write_text(ENOUGH, encoding='utf-8')
    before = read_documents(tmp_path)
    assert read_documents(tmp_path) is before
    (tmp_path/'a.txt').write_text(f'New. {ENOUGH}', encoding='utf-8')
    assert read_documents(tmp_path).passages[0].text.startswith('New.')


def test_a_page_of_a_pdf_with_ligatures_and_marks():
    blocks = read_pdf(pdf('The \ufb01rst \ufb02oor costs 5 € {{ x }} <b>\nand more.', '', 'Third.'))
    assert [(block.page, block.text) for block in blocks] == [(1, 'The first floor costs 5 € {{ x }} <b> and more.'), (2, ''), (3, 'Third.')]


def test_pages_without_text_are_told(tmp_path):
    (tmp_path/'a.pdf').write_bytes(pdf(ENOUGH, ''))
    assert read_documents(tmp_path).doubts() == ['1 page of a.pdf without text']


def test_markdown_by_headings():
    text = '\ufeff---\ntitle: no heading\n---\n# One\n\n## Two *x*\n\nA **b** `c` [d](e) ![f](g)\nnext &copy;\n\n> quoted\n\n1. item\n\n   more\n\n# Three\n<div>no</div>\n\nlast\n\nUnder\n-----\n\n    code\n\nend\n'
    assert [(block.text, block.heading, block.line) for block in read_markdown(text.encode())] == [
        ('A b c d next ©', 'One > Two x', 8), ('quoted', 'One > Two x', 11), ('item', 'One > Two x', 13), ('more', 'One > Two x', 15), ('last', 'Three', 20), ('end', 'Three > Under', 27)]


def test_text_with_any_line_ends():
    for end in ('\n', '\r\n'): assert [(block.text, block.line) for block in read_text(f'a{end} b {end}{end}{end}c'.encode())] == [('a b', 1), ('c', 5)]


WORDS = st.lists(st.text('abcdefg. ', min_size=1, max_size=40), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(texts=WORDS, words=st.integers(1, 12), characters=st.integers(5, 60))
def test_pieces_fit_and_nothing_is_lost(texts, words, characters):
    blocks = [Block(' '.join(text.split()), line=n) for n, text in enumerate(texts)]
    pieces = cut_blocks(blocks, words, characters)
    assert all(len(piece.text.split()) <= words and len(piece.text) <= characters for piece in pieces)
    assert ''.join(''.join(piece.text.split()) for piece in pieces) == ''.join(''.join(block.text.split()) for block in blocks)
    assert [piece.line for piece in pieces] == sorted(piece.line for piece in pieces)


def test_a_language_without_spaces_is_cut_too():
    pieces = cut_blocks([Block('港町の朝は早い。'*300)], 100, 1200)
    assert len(pieces) == 2 and all(piece.text for piece in pieces)


def test_what_does_not_fit_a_task_is_told_in_words(tmp_path):
    for n, noun in enumerate(('bridge', 'market', 'tower')): (tmp_path/f'{n}.md').write_text(f'# The {noun}\n\n' + f'The {noun} of number {n} was built by people of the town. '*(2 + 10*(n > 0)), encoding='utf-8')
    assert passage_seeds(tmp_path, Strategy(load_task('boolq'))).doubts == ("1 of 3 passages does not fit 'boolq' (fewer than 420 characters: 1)",)


def test_telling_words_stand_in_their_texts():
    texts = ['It is. It was?', '12 34', '...', 'Straße, STRASSE', 'The Crane lifts; the crane falls.']
    assert telling_words(texts)[-1] == 'Crane' and all(word.casefold() in text.casefold() or 'tra' in word for word, text in zip(telling_words(texts), texts))


def test_only_a_folder_markdown_pdf_and_kept_passages_are_documents(tmp_path):
    for name in ('a.txt', 'a.md', 'a.pdf', 'a.csv', 'a.jsonl'): (tmp_path/name).write_text('{"subject": "x"}')
    assert [is_documents(tmp_path/name) for name in ('', 'a.txt', 'a.md', 'a.pdf', 'a.csv', 'a.jsonl', 'none')] == [True, False, True, True, False, False, False]
    assert not is_documents('')


def test_a_missing_reader_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path/'a.pdf').write_bytes(pdf(ENOUGH))
    (tmp_path/'b.md').write_text(ENOUGH, encoding='utf-8')
    for name in ('pypdfium2', 'markdown_it'): monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r'PDF is read by pypdfium2, which is not there: pip install "synthlab-text\[documents\]".*Markdown is read by markdown-it-py'): read_documents(tmp_path)


def test_the_fingerprint_is_of_text_and_place(tmp_path):
    strategy = Strategy(load_task('sst2'))
    def name(text, file='a.txt'):
        for path in tmp_path.iterdir(): path.unlink()
        (tmp_path/file).write_text(text, encoding='utf-8')
        return passage_seeds(tmp_path, strategy).fingerprint
    names = [name(ENOUGH), name(ENOUGH + ' x'), name('\n' + ENOUGH), name(ENOUGH, 'b.txt')]
    assert len(set(names)) == 4 and name(ENOUGH) == names[0]
