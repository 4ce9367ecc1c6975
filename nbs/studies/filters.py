"""What the filters find of planted texts, and what they reject of gold rows that nobody complains about.

    python nbs/studies/filters.py --out nbs/studies/filters.json          some minutes on one core

Planted texts are those of filters.toml, numbers made here, and gold rows with words changed. Gold rows are found through
SYNTHLAB_GOLD; they are read, counted and left where they are.
"""
import argparse
import json
import os
import random
import time
import tomllib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from stdnum import luhn

from synthlab.cli.runs import kept_embedder
from synthlab.filters import Language, Personal, _identifier, find_card, find_email, find_iban, find_phone
from synthlab.run.generate import Repeats
from synthlab.run.screening import Copies, NearRepeats, SameMeaning
from synthlab.teacher.causal import CausalTeacher
from synthlab.util import plain_words

from protocol import stamp

ROWS, PLANTED, TIMED, SEED = 2000, 300, 200, 0
# Embeddings take long: so many rows, and so many copies of each kind.
MEANT, MEANT_PLANTED = 400, 60
GOLD = {'agnews': ('test', 'train'), 'imdb': ('test', 'train'), 'sst2': ('train_sentences', 'test'),
        'humor': ('test', 'train'), 'amazon14': ('test', 'train'), 'toi2001': ('test', 'train')}
MINE = tomllib.loads(Path(__file__).with_name('filters.toml').read_text(encoding='utf-8'))
CERTAINTIES, COSINES, SHARED = (.5, .7, .8, .9, .95), (.8, .85, .9, .95), (.6, .7, .8, .9)


def gold(name, part, rows=ROWS):
    "Different texts of a gold set, drawn with one seed."
    frame = pd.read_parquet(Path(os.environ['SYNTHLAB_GOLD'])/name/f'{part}.parquet')
    texts = frame['text' if 'text' in frame else 'sentence'].drop_duplicates()
    return texts.sample(min(rows, len(texts)), random_state=SEED).tolist()


def share(found): return {'found': int(sum(map(bool, found))), 'n': len(found)}


def changed(text, words, pool, rng):
    "The text with so many words replaced by words of other rows."
    parts = text.split()
    for place in rng.sample(range(len(parts)), words):
        parts[place] = next(word for word in iter(lambda: rng.choice(pool), None) if word.lower() != parts[place].lower())
    return ' '.join(parts)


class Known:
    "An embedder that has all vectors already."

    def __init__(self, texts):
        texts = list(dict.fromkeys(texts))
        self.vectors = dict(zip(texts, kept_embedder().encode(texts)))

    def encode(self, texts): return np.stack([self.vectors[text] for text in texts])


def rejected(check, texts):
    "How many texts a check rejects when they come one after the other."
    count = 0
    for text in texts:
        if check.fault(text): count += 1
        else: check.add(text)
    return count


def near(name, texts):
    "Copies with one to three words changed: how many are found among the rows; and how many rows are rejected anyway."
    rng, pool = random.Random(SEED), [word for text in texts[:500] for word in text.split()]
    long = [text for text in texts if len(text.split()) >= 4][:PLANTED]
    copies = {words: [changed(text, words, pool, rng) for text in long] for words in (1, 2, 3)}
    known = Known([*texts[:MEANT], *(copy for made in copies.values() for copy in made[:MEANT_PLANTED])])
    def found(check, rows=None, most=None):
        for text in texts[:rows]: check.add(text)
        return {str(words): share([check.fault(copy) for copy in made[:most]]) for words, made in copies.items()}
    words = {str(t): {'planted': found(NearRepeats(t)), 'gold': {'found': rejected(NearRepeats(t), texts), 'n': len(texts)}} for t in SHARED}
    meaning = {str(c): {'planted': found(SameMeaning(c, known), MEANT, MEANT_PLANTED),
                        'gold': {'found': rejected(SameMeaning(c, known), texts[:MEANT]), 'n': MEANT}}
               for c in COSINES}
    return {'rows': len(texts), 'median_words': float(np.median([len(plain_words(text)) for text in texts])),
            'words': words, 'meaning': meaning, 'exact': rejected(Repeats(), texts)}


def copied(name, texts):
    "Rows of a test set that were copied with words changed, and other gold rows of the same kind."
    rng, pool = random.Random(SEED + 1), [word for text in texts[:500] for word in text.split()]
    long, check = [text for text in texts if len(text.split()) >= 4][:PLANTED], Copies(texts)
    made = {str(words): share([check.fault(changed(text, words, pool, rng)) for text in long]) for words in (0, 1, 2, 3)}
    return {'planted': made, 'other': share([check.fault(text) for text in gold(name, GOLD[name][1])])}


def cards(rng):
    "Numbers of payment cards that agree with Luhn's formula, plain and in groups."
    made = []
    for start, size in (('4', 16), ('51', 16), ('55', 16), ('2221', 16), ('34', 15), ('37', 15), ('6011', 16),
                        ('65', 16), ('3528', 16), ('36', 14), ('62', 16)):
        for _ in range(10):
            number = start + ''.join(rng.choice('0123456789') for _ in range(size - len(start) - 1))
            number += luhn.calc_check_digit(number)
            groups = [number[i:i+4] for i in range(0, size, 4)]
            made.append(rng.choice([number, ' '.join(groups), '-'.join(groups)]))
    return made


def harmless(rng):
    "Numbers that are nobody's: of each kind a hundred, with the words that stand around them."
    def n(low, high): return rng.randint(low, high)
    kinds = {
        'prices': lambda: rng.choice([f'for ${n(1, 999)},{n(0, 999):03},{n(0, 999):03}.{n(0, 99):02}', f'{n(1, 9999)}.99 euros instead of {n(1, 9999)}.50', f'Rs {n(1, 99)},{n(0, 99):02},{n(0, 999):03} crore']),
        'years': lambda: rng.choice([f'from {n(1900, 1990)} to {n(1991, 2030)}', f'the seasons {n(1950, 2000)}-{n(2001, 2030)}', f'in {n(1900, 2030)}, {n(1900, 2030)} and {n(1900, 2030)}']),
        'dates': lambda: rng.choice([f'on {n(1990, 2030)}-{n(1, 12):02}-{n(1, 28):02}', f'{n(1, 28):02}/{n(1, 12):02}/{n(1990, 2030)} at {n(0, 23):02}:{n(0, 59):02}', f'{n(1, 28):02}.{n(1, 12):02}.{n(1990, 2030)}']),
        'scores': lambda: rng.choice([f'won {n(0, 9)}-{n(0, 9)}', f'{n(0, 7)}-{n(0, 7)}, {n(0, 7)}-{n(0, 7)}, {n(0, 7)}-{n(0, 7)}, {n(0, 7)}-{n(0, 7)}', f'{n(60, 140)}-{n(60, 140)}, {n(20, 40)}-{n(20, 40)} at the half']),
        'stocks': lambda: rng.choice([f'stock {n(600000, 605000)} rose {n(0, 9)}.{n(0, 99):02}%', f'the index closed at {n(1, 39)},{n(0, 999):03}.{n(0, 99):02}, up {n(1, 400)}.{n(0, 99):02}', f'{n(1, 999)},{n(0, 999):03},{n(0, 999):03} shares']),
        'books': lambda: f'ISBN {rng.choice(["978", "979"])}-{n(0, 9)}-{n(100, 999)}-{n(10000, 99999)}-{n(0, 9)}',
        'orders': lambda: rng.choice([f'order {n(100, 999)}-{n(1000000, 9999999)}-{n(1000000, 9999999)}', f'invoice no. {n(10**9, 10**10 - 1)}', f'ticket {n(10**7, 10**8 - 1)}']),
        'barcodes': lambda: f'UPC {n(0, 9)} {n(10000, 99999)} {n(10000, 99999)} {n(0, 9)}',
        'places': lambda: rng.choice([f'{n(10, 59)}.{n(1000, 9999)}, -{n(10, 150)}.{n(1000, 9999)}', f'{n(10, 255)}.{n(0, 255)}.{n(0, 255)}.{n(0, 255)}', f'ZIP {n(10000, 99999)}-{n(1000, 9999)}'])}
    return {kind: [rng.choice(MINE['sentences']).format(make()) for _ in range(100)] for kind, make in kinds.items()}


def personal():
    "Planted addresses and numbers in sentences, and numbers that are nobody's."
    rng = random.Random(SEED)
    def set_in(values): return [rng.choice(MINE['sentences']).format(value) for value in values]
    def grouped(number): return rng.choice([number, ' '.join(number[i:i+4] for i in range(0, len(number), 4))])
    planted = {'e-mail': share(list(map(find_email, set_in(MINE['emails'])))),
               'card': share(list(map(find_card, set_in(cards(rng))))),
               'iban': share(list(map(find_iban, set_in([grouped(number) for number in MINE['accounts']['ibans']]*2))))}
    phones = {region: share(list(map(find_phone, set_in(numbers)))) for region, numbers in MINE['phones'].items()}
    check = Personal()
    return {'planted': planted, 'phones': phones,
            'harmless': {kind: share(list(map(check.fault, texts))) for kind, texts in harmless(rng).items()}}


def foreign(texts, code):
    "How many texts are rejected where a language is asked for, by certainty; each text is looked at once."
    told = [_identifier().classify(text) for text in texts]
    return {str(c): sum(found not in (code, 'zxx') and p >= c for found, p in told) for c in CERTAINTIES}


def language():
    "Texts in five languages where English is asked for, and the other way round."
    sizes = {size: [text for texts in MINE[size].values() for text in texts] for size in ('long', 'short')}
    return {'not English': {size: {'found': foreign(texts, 'en'), 'n': len(texts)} for size, texts in sizes.items()},
            'as asked': {code: {'found': foreign(texts, code), 'n': len(texts)} for code, texts in MINE['long'].items()}}


def meanings():
    "Pairs that say the same in other words, and pairs that say the contrary in nearly the same words."
    known = Known([text for kind in ('paraphrases', 'opposites') for pair in MINE[kind]['pairs'] for text in pair])
    cosines = {kind: [float(one @ other) for one, other in (known.encode(pair) for pair in MINE[kind]['pairs'])]
               for kind in ('paraphrases', 'opposites')}
    return {str(c): {kind: share([cosine >= c for cosine in values]) for kind, values in cosines.items()} for c in COSINES}


def alarms(texts):
    "What the filters of single texts reject of gold rows."
    check = Personal()
    reasons = [check.fault(text) for text in texts]
    return {'personal': {reason: reasons.count(reason) for reason in sorted(set(reasons) - {''})}, 'n': len(texts),
            'language': foreign(texts, 'en')}


def cost(name, texts):
    "Seconds for a thousand rows, each judged and remembered; those that may not be copied are others."
    checks = {'exact': Repeats(), 'words': NearRepeats(), 'meaning': SameMeaning(), 'copies': Copies(gold(name, GOLD[name][1])),
              'pii': Personal(), 'language': Language('en')}
    found = {}
    for name, check in checks.items():
        check.fault(texts[0])                                               # what is loaded once is not counted
        start = time.perf_counter()
        rejected(check, texts[:TIMED])
        found[name] = round((time.perf_counter() - start)*1000/min(TIMED, len(texts)), 3)
    return found


def tokens(texts, tokenizer):
    "Words of a text for each of its tokens: the median, and the largest among a hundred."
    ratios = [len(plain_words(text))/max(1, len(tokenizer(text, add_special_tokens=False)['input_ids'])) for text in texts]
    return {'median': round(float(np.median(ratios)), 3), 'p99': round(float(np.quantile(ratios, .99)), 3),
            'most': round(max(ratios), 3)}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--out', type=Path, default=Path('nbs/studies/filters.json'))
    o, tokenizer, found = a.parse_args(), CausalTeacher('pocket').tokenizer, {}
    for name, (part, _) in GOLD.items():
        texts = gold(name, part)
        found[name] = {'alarms': alarms(texts), 'near': near(name, texts), 'copies': copied(name, texts),
                       'seconds': cost(name, texts), 'words_per_token': tokens(texts, tokenizer)}
        print(name, json.dumps(found[name]), flush=True)
    versions = {name: version(name) for name in ('phonenumbers', 'python-stdnum', 'py3langid', 'datasketch')}
    record = {'stamp': stamp(None, n=f'{ROWS} rows of a set, {PLANTED} planted copies; for meaning {MEANT} and {MEANT_PLANTED}', seeds=[SEED]),
              'versions': versions, 'gold': found, 'personal': personal(), 'language': language(), 'meaning': meanings()}
    o.out.write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__': main()
