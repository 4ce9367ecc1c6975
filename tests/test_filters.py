"Filters while writing: each finds what it is for, a run replaces what is rejected, and what is asked for is kept with it."
import time
import tomllib
import warnings
from collections import Counter
from pathlib import Path

import pytest
from stdnum import luhn
from synthlab import filters as module
from synthlab.cli.main import main
from synthlab.filters import Filters, Language, Length, Personal, find_card, find_email, find_iban, find_phone, length_doubt
from synthlab.run.produce import produce
from synthlab.run.recipe import Recipe, generate
from synthlab.store.runs import RunError, read_recipe, read_rows
from synthlab.tasks.task import load_task
from synthlab.teacher.asking import TextTeacher
from synthlab.teacher.requests import Answer

PLANTED = tomllib.loads((Path(__file__).parents[1]/'nbs'/'studies'/'filters.toml').read_text(encoding='utf-8'))
NEWS = load_task('ag_news')
WORLD = {label: float(label == 'World') for label in NEWS.label_names}
RAIN, MAIL, SHORT, GERMAN = ('Rain fell on Oslo all day and all night long.', 'Write to the town hall at mayor@oslo.example before noon.', 'Rain again.',
                             'Der Bürgermeister eröffnete gestern die neue Brücke über den Fluss.')
SNOW, WIND = 'Snow fell in Bergen and the trains stood still.', 'A strong wind closed the harbour of Stavanger for hours.'


@pytest.fixture(autouse=True)
def quietly():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


class Parrot(TextTeacher):
    "Says these texts in turn, however often it is asked."
    identity = {'name': 'parrot', 'revision': None}

    def __init__(self, *texts): self.texts, self.asked = texts, 0

    def token_bound(self, request): return 20

    def ask(self, requests):
        for place, request in enumerate(requests):
            if request is None: continue
            self.asked += 1
            yield place, Answer(self.texts[request.name % len(self.texts)], 'stop', prompt_tokens=1, completion_tokens=1)


def written(out, n, *texts, **options):
    "The accepted texts of a run, how all candidates ended, and the teacher."
    teacher = Parrot(*texts)
    rows = generate('ag_news', n, options.pop('recipe', 'simprompt'), out=out, teacher=teacher, proportions=WORLD, **options)
    return sorted(rows['text']), Counter(row['reason'] for row in read_rows(out, None)), teacher


# ---- single texts

@pytest.mark.parametrize('number', [number for region, numbers in PLANTED['phones'].items() if region != 'others, without +' for number in numbers])
def test_telephone_numbers_are_found_as_they_are_written(number):
    assert all(find_phone(text) for text in (number, f'Call {number}.', f'(Tel: {number}), now'))


@pytest.mark.parametrize('text', ['won 3-0 and 21-14', '6-4, 6-7, 7-6, 6-3', 'in 1999, 2001 and 2010', 'from 1999-2001', '$1,234,567.89 a year', 'Rs 12,34,56,789 crore', 'stock 600519 rose 3.25%', '2001-09-11 08:46',
                                  'ISBN 978-0-306-40615-7', 'UPC 0 51500 10162 9', 'version 10.15.7', 'ZIP 94025-1234', '192.168.100.200', '12,345,678 people in 2020', '4,000,000,000,000,000 atoms'])
def test_other_numbers_pass(text): assert Personal().fault(text) == ''


@pytest.mark.parametrize('email', PLANTED['emails'])
def test_addresses_are_found_whole(email): assert find_email(f'Write to <{email}>, or not.') == email


@pytest.mark.parametrize('number', PLANTED['accounts']['ibans'])
def test_ibans_of_each_country_are_found_and_a_wrong_digit_is_not_one(number):
    spaced = ' '.join(number[i:i+4] for i in range(0, len(number), 4))
    assert find_iban(f'Pay to {number}.') == find_iban(f'Pay to {spaced} BIC XXXX AND SO ON') == number
    assert find_iban(f'Pay to {number[:2]}{(int(number[2:4]) + 1) % 100:02}{number[4:]}.') == ''


@pytest.mark.parametrize('start, size', [('4', 16), ('4', 19), ('51', 16), ('2720', 16), ('34', 15), ('6011', 16), ('65', 16), ('3589', 16), ('305', 14), ('62', 17)])
def test_cards_are_found_and_a_wrong_digit_is_not_one(start, size):
    digits = (start + '123456789012345678')[:size - 1]
    number = digits + luhn.calc_check_digit(digits)
    assert find_card(f'card {number}, 12/29') == find_card('-'.join(number[i:i+4] for i in range(0, size, 4))) == number
    assert find_card(number[:-1] + str((int(number[-1]) + 1) % 10)) == '' and find_card('9' + number[1:]) == ''


@pytest.mark.parametrize('piece', ['a', 'a.', '1', '1 ', '1-', 'A1', 'AB12', '@', 'a@', 'a@b.', '+', '+1', '(1) '])
def test_a_long_text_of_one_piece_takes_no_longer(piece):
    text, start = piece*20_000, time.monotonic()
    for find in (find_email, find_card, find_iban): find(text)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize('code', PLANTED['long'])
def test_languages_are_told_and_short_texts_pass(code):
    texts = PLANTED['long'][code]
    assert sum(bool(Language('en').fault(text)) for text in texts) >= len(texts) - 1
    assert not any(Language(code).fault(text) for text in texts)
    assert not any(Language('en').fault(text) for text in ('OK', '10-3', '', '...', 'Go eagles', 'Nice!'))


def test_lengths_count_from_the_first_to_the_last():
    check = Length(2, 3, 7, 11)
    assert [check.fault(text)[:9] for text in ('one', 'one two', 'one two six', 'a b c d', 'a b', 'eleven nines')] == ['too short', '', '', 'too long ', 'too short', 'too long ']
    assert Length(min_words=1).fault('...') == 'too short (min_words = 1)' and length_doubt(0, 1) == ''


# ---- what is asked for

@pytest.mark.parametrize('table, said', [
    ({'pii': 'mask'}, 'rejected and not masked'), ({'pii': True}, 'pii must be off or reject, got True'), ({'min_words': 2.5}, 'whole number'), ({'min_words': 5, 'max_words': 4}, 'min_words = 5 is more than max_words = 4'),
    ({'min_characters': 5, 'max_characters': 4}, 'no text is both'), ({'language': 'English'}, 'such as "en"'), ({'language': 5}, 'such as "en"'), ({'languages': 'en'}, "did you mean 'language'"),
    ({'decontaminate': 'test.csv'}, '--decontaminate'), ({'duplicates': 'word'}, "did you mean 'words'"), ([], 'a table such as'), ('pii', 'a table such as')])
def test_what_makes_no_sense_is_refused_with_what_would(table, said, tmp_path):
    with pytest.raises(ValueError, match=said): generate('ag_news', 4, out=tmp_path/'run', filters=table)
    assert not (tmp_path/'run').exists()


@pytest.mark.parametrize('table, extra', [({'pii': 'reject'}, 'pii'), ({'language': 'en'}, 'language')])
def test_a_missing_extra_is_refused_before_anything_is_asked(table, extra, tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match=rf'not there: pip install "synthlab-text\[{extra}\]", or leave'): written(tmp_path/'run', 2, RAIN, filters=table)
    assert not (tmp_path/'run').exists()


def test_a_length_that_no_text_can_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match='a text ends after 20 tokens'): written(tmp_path/'run', 2, RAIN, filters={'min_words': 21}, max_new_tokens=20)
    with pytest.raises(ValueError, match="no code of a language that can be told"): written(tmp_path/'run', 2, RAIN, filters={'language': 'xq'})
    with pytest.warns(UserWarning, match='few texts have as many'): written(tmp_path/'run', 1, RAIN*2, filters={'min_words': 18}, max_new_tokens=20)
    assert len(written(tmp_path/'rows', 1, RAIN, filters={'min_words': 5}, max_new_tokens=20)[0]) == 1


def test_examples_that_would_be_rejected_are_told(tmp_path):
    with pytest.warns(UserWarning, match=r'20 of 20 examples would be rejected themselves \(too long \(max_words = 3\) 20\)'):
        written(tmp_path/'run', 1, 'Rain.', recipe='fewgen', filters={'max_words': 3})


# ---- while writing

def test_what_is_rejected_is_counted_and_replaced(tmp_path):
    asked = Filters(pii='reject', min_words=4, language='en')
    texts, ends, _ = written(tmp_path/'run', 3, RAIN, MAIL, SHORT, GERMAN, SNOW, WIND, filters=asked)
    assert texts == sorted([RAIN, SNOW, WIND])
    assert ends == {'': 3, 'holds an e-mail address (pii)': 1, 'too short (min_words = 4)': 1, 'reads as de (language = en)': 1}
    assert read_recipe(tmp_path/'run')['method']['filter'] == asked.table and Recipe.from_toml(tmp_path/'run'/'recipe.toml').filters == asked
    assert read_recipe(tmp_path/'run')['language'] == 'en' and all('@' not in row['text'] for row in read_rows(tmp_path/'run'))


def test_a_run_goes_on_with_its_filters(tmp_path):
    said, asked = (RAIN, MAIL, SNOW, SHORT, WIND, GERMAN), {'pii': 'reject', 'min_words': 4, 'language': 'en'}
    whole, ends, _ = written(tmp_path/'whole', 3, *said, filters=asked)
    first = written(tmp_path/'part', 3, *said, filters=asked, max_calls=2)
    assert len(first[0]) == 1
    done = produce(read_recipe(tmp_path/'part') | {'machine': {}}, tmp_path/'part', Parrot(*said))
    assert done.counts['rejected']['holds an e-mail address (pii)'] == 1
    assert [(row['text'], row['reason']) for row in read_rows(tmp_path/'part', None)] == [(row['text'], row['reason']) for row in read_rows(tmp_path/'whole', None)]
    with pytest.raises(RunError, match=r"method.filter.pii: 'reject' there, None now"): written(tmp_path/'part', 3, *said)


def test_another_filter_is_a_fork_that_asks_nothing_again(tmp_path):
    said = RAIN, MAIL, SNOW, WIND
    written(tmp_path/'plain', 3, *said)
    texts, _, teacher = written(tmp_path/'clean', 2, *said, filters={'pii': 'reject'}, fork=tmp_path/'plain')
    assert texts == sorted([RAIN, SNOW]) and teacher.asked == 0


def test_without_filters_a_recipe_is_what_it_was(tmp_path):
    written(tmp_path/'run', 2, RAIN, SNOW)
    found = read_recipe(tmp_path/'run')
    assert 'filter' not in found['method'] and 'duplicates' not in found and 'filter' not in Recipe.fewgen().to_toml()
    assert Recipe.fewgen(filters={'min_words': 0, 'pii': 'off'}) == Recipe.fewgen()
    assert written(tmp_path/'run', 2, RAIN, SNOW, filters={})[2].asked == 0            # the same request


def test_repeated_texts_are_a_filter_of_a_recipe_too(tmp_path):
    near = RAIN.replace('long.', 'long!!'), RAIN[:-1] + ' now.'
    for name, options in (('table', {'filters': {'duplicates': 'words'}}), ('keyword', {'duplicates': 'words'})):
        assert written(tmp_path/name, 2, RAIN, *near, SNOW, **options)[0] == sorted([RAIN, SNOW])
    assert len(written(tmp_path/'keep', 3, RAIN, RAIN, RAIN, recipe=Recipe.simprompt(filters={'duplicates': 'words'}), duplicates='keep')[0]) == 3
    with pytest.raises(ValueError, match='say it in one place'): written(tmp_path/'both', 2, RAIN, filters={'duplicates': 'words'}, duplicates='keep')


def test_where_a_filter_rejects_everything_the_reason_names_it(tmp_path):
    with pytest.warns(UserWarning, match=r'the candidates ended as: too short \(min_words = 4\) 4'): written(tmp_path/'run', 2, SHORT, filters={'min_words': 4}, budget=4)


# ---- on the command line

def test_options_count_before_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path('mine.toml').write_text(Recipe.fewgen(shots=1, filters={'duplicates': 'words', 'max_words': 40, 'language': 'en'}).to_toml(), encoding='utf-8')
    assert '# Most words of a text' in Path('mine.toml').read_text(encoding='utf-8')
    usual = ['generate', 'ag_news', '--recipe', 'mine.toml', '--n', '1', '--max-new-tokens', '12', '--out']
    assert main([*usual, 'file']) == 0 and main([*usual, 'more', '--pii', 'reject', '--max-words', '30', '--duplicates', 'exact']) == 0
    file, more = (read_recipe(out) for out in ('file', 'more'))
    assert file['method']['filter'] == {'duplicates': 'words', 'max_words': 40, 'language': 'en'} and 'duplicates' not in file
    assert more['method']['filter'] == {'pii': 'reject', 'max_words': 30, 'language': 'en'} and 'duplicates' not in more
    capsys.readouterr()
    for words, said in (('--min-words 5 --max-words 4', 'no text is both'), ('--pii mask', "'off', 'reject'"), ('--language English', 'such as "en"'), ('--min-words 13', 'a text ends after 12 tokens')):
        assert main([*usual, 'bad', *words.split()]) == 2 and said in capsys.readouterr().err.replace('\n', ' ')
    assert not Path('bad').exists()
