"Files that are wrong in one way each, for tests of what is said about them."
import json
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

TASK = '''name = "mine"
instruction = "Write a note that is {{ verbalisation }}."
max_new_tokens = 12
[[labels]]
name = "good"
description = "It is praise."
demonstrations = ["A joy.", "So fine.", "Lovely."]
tests = ["A treat."]
[[labels]]
name = "bad"
description = "It is blame."
demonstrations = ["Dull.", "A bore.", "Flat."]
tests = ["A mess."]
'''
ROWS = [('A joy to hold.', 'good'), ('So fine a thing.', 'good'), ('It was lovely.', 'good'), ('What a dull thing.', 'bad'), ('It is a bore.', 'bad'),
        ('Flat and grey.', 'bad')]


def changed(*pairs):
    "The usual task with other words."
    text = TASK
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def table(rows=ROWS, head='text,label', gap=','): return '\n'.join([head, *(gap.join(row) for row in rows)]) + '\n'


def lines(rows): return ''.join(json.dumps(row) + '\n' for row in rows)


# A file's content; bytes are written as they are.
TASKS = {
    'empty.toml': '', 'nottoml.toml': 'name = "mine\n', 'latin.toml': TASK.replace('praise', 'éloge').encode('latin-1'), 'utf16.toml': TASK.encode('utf-16'),
    'nolabels.toml': TASK.split('[[labels]]')[0], 'emptylabels.toml': 'name = "mine"\nlabels = []\n', 'onelabel.toml': '[[labels]]'.join(TASK.split('[[labels]]')[:2]),
    'twice.toml': changed(('"bad"', '"Good"')), 'noname.toml': changed(('"bad"', '""')), 'noplace.toml': changed((' that is {{ verbalisation }}', '')),
    'wrongplace.toml': changed(('verbalisation', 'verbalization')), 'brokenplace.toml': changed(('verbalisation }}', 'verbalisation')),
    'zerotokens.toml': changed(('max_new_tokens = 12', 'max_new_tokens = 0')), 'wordtokens.toml': changed(('max_new_tokens = 12', 'max_new_tokens = "many"')),
    'unknownkey.toml': changed(('max_new_tokens', 'max_new_token')), 'nullabel.toml': changed(('It is blame', 'It is\\u0000blame')),
    'nuldemo.toml': changed(('"Dull."', '"Du\\u0000ll."')), 'emptydemo.toml': changed(('"Dull."', '""')), 'twicedemo.toml': changed(('"A bore."', '"dull."')),
    'crossdemo.toml': changed(('"A bore."', '"A joy."')), 'leak.toml': changed(('"A mess."', '"Dull."')), 'long.toml': changed(('It is blame.', 'blame '*3000), ('is {{ verbalisation }}', 'is {{ description }}')),
    'wronglabels.toml': 'name = "mine"\nlabels = 5\n', 'fields.toml': changed(('instruction = "Write a note that is {{ verbalisation }}."', 'fields = ["a", "b"]')),
    'attribute.toml': changed(('[[labels]]', '[attributes]\n"my key" = "what"\n[[labels]]')), 'noquestion.toml': changed(('[[labels]]', 'question = "Which label?"\n[[labels]]')),
    'recipe-as-task.toml': '[select]\nchoice = "random"\n', 'numbername.toml': changed(('"mine"', '""')), 'somedemos.toml': changed(('demonstrations = ["Dull.", "A bore.", "Flat."]\n', '')),
    'nodemos.toml': changed(('demonstrations = ["Dull.", "A bore.", "Flat."]\n', ''), ('demonstrations = ["A joy.", "So fine.", "Lovely."]\n', '')),
    'cue.toml': changed(('max_new_tokens', 'cue = ""\nmax_new_tokens')), 'mine.toml': TASK, 'bom.toml': '\ufeff' + TASK}
RECIPES = {
    'r-empty.toml': '', 'r-nottoml.toml': '[select\n', 'r-latin.toml': 'name = "é"'.encode('latin-1'), 'r-stage.toml': '[selct]\nchoice = "random"\n',
    'r-choice.toml': '[select]\nchoice = "radom"\n', 'r-nochoice.toml': '[select]\ncluster = 2\n', 'r-option.toml': '[decode]\nchoice = "correlated"\ngama = 2.0\n',
    'r-type.toml': '[decode]\nchoice = "correlated"\ngamma = "much"\n', 'r-nan.toml': '[decode]\nchoice = "correlated"\ngamma = nan\n', 'r-flat.toml': 'select = "random"\n',
    'r-bool.toml': '[prompt]\nchoice = "few-shot"\nshared = "yes"\n', 'r-list.toml': '[select]\nchoice = ["random"]\n', 'r-name.toml': 'name = 5\n', 'r-half.toml': '[prompt]\nchoice = "few-shot"\nshots = 1.5\n',
    'r-nofile.toml': '[select]\nchoice = "nowhere.py:Mine"\n', 'r-noclass.toml': '[select]\nchoice = "plain.py:Mine"\n', 'r-raises.toml': '[select]\nchoice = "raises.py:Mine"\n',
    'r-syntax.toml': '[select]\nchoice = "syntax.py:Mine"\n', 'r-module.toml': '[select]\nchoice = "no_such_package:Mine"\n', 'r-misfit.toml': '[select]\nchoice = "none"\n',
    'r-targeted.toml': '[select]\nchoice = "none"\n[prompt]\nchoice = "targeted"\nseeds_from = "nowhere.csv"\n', 'r-odd.toml': '[prompt]\nchoice = "attributes"\nper_record = 3\ntexts = 2\n',
    'plain.py': 'class Mine: pass\n', 'raises.py': '1/0\n', 'syntax.py': 'class Mine(:\n', 'r-own.toml': '[select]\nchoice = "own.py:Mine"\nskip = 1\n',
    'own.py': 'from dataclasses import dataclass\nfrom synthlab.choice import option, register\nfrom synthlab.select.choices import Selecting\n\n\n@register("select")\n@dataclass(frozen=True)\n'
              'class Mine(Selecting):\n    """The first ones.\n\n    Parameters\n    ----------\n    skip : int\n        Left out.\n    """\n\n    choice = "mine"\n    skip: int = option(0, least=0)\n\n'
              '    def pick(self, X, n, seed): return list(range(self.skip, self.skip + n))\n'}
GOLD = {
    'g-empty.csv': '', 'g-head.csv': 'text,label\n', 'g-latin.csv': table([('Une joie été.', 'good'), *ROWS]).encode('latin-1'), 'g-utf16.csv': table().encode('utf-16'),
    'g-nul.csv': table([('A \0 joy.', 'good'), *ROWS]), 'g-notext.csv': table(head='review,label'), 'g-nolabel.csv': table(head='text,stars'), 'g-semicolon.csv': table(gap=';', head='text;label'),
    'g-unknown.csv': table([('A joy.', 'goood'), *ROWS]), 'g-emptytext.csv': table([(' ', 'good'), *ROWS]), 'g-ids.csv': table([(*row, 'x') for row in ROWS], 'text,label,id'),
    'g-ragged.csv': table([('Well, a joy.', 'good'), *ROWS]), 'g-quote.csv': 'text,label\n"A "joy" it is.",good\n', 'g-five.csv': table(ROWS*5), 'g-two.csv': table([*ROWS, *ROWS]), 'g-one.csv': table(ROWS[:3]*1),
    'g-few.csv': table(ROWS[::3]), 'g-crossed.csv': table([('Flat and grey.', 'good'), *ROWS]), 'g-huge.csv': table([('joy '*50_000, 'good'), *ROWS]), 'g-long.csv': table([('joy '*3000, 'good'), *ROWS]),
    'g-twoheads.csv': table(head='text,text'), 'g-not.jsonl': 'text\n', 'g-list.jsonl': '["a", "b"]\n', 'g-number.jsonl': lines([{'text': 5, 'label': 'good'}]), 'g-null.jsonl': lines([{'text': None, 'label': 'good'}]),
    'g-nested.jsonl': lines([{'text': 'A joy.', 'label': ['good']}]), 'g-half.jsonl': '{"text": "\\ud83d", "label": "good"}\n', 'g-missing.jsonl': lines([{'text': 'A joy.'}, {'text': 'Dull.', 'label': 'bad'}]),
    'g-not.parquet': 'no parquet', 'g-empty.parquet': '', 'g.json': '[]', 'g.xlsx': 'PK', 'g.txt': 'A joy.\n', 'g-cut.csv': 'text,label\n"A joy,good\n', 'g-good.csv': table(), 'g-weight.csv': table([(*row, 'heavy') for row in ROWS], 'text,label,weight')}
PRICES = {'p-not.toml': '[owl\n', 'p-keys.toml': '[owl]\nprompts = 1.0\n', 'p-word.toml': '[owl]\nprompt = "cheap"\ncompletion = 1.0\n', 'p-minus.toml': '[owl]\nprompt = -1.0\ncompletion = 1.0\n', 'p-flat.toml': 'prompt = 0.5\n',
          'p-nan.toml': '[owl]\nprompt = nan\ncompletion = 1.0\n'}


def write_bad_files(folder):
    "Write them all into a folder."
    folder = Path(folder)
    for name, content in (TASKS | RECIPES | GOLD | PRICES).items():
        (folder/name).write_bytes(content if isinstance(content, bytes) else content.encode('utf-8'))
    parquet.write_table(pa.table({'text': pa.array([], pa.string()), 'label': pa.array([], pa.string())}), folder/'g-norows.parquet')
    parquet.write_table(pa.table({'text': pa.array([b'\xff\xfe', b'ok'], pa.binary()), 'label': ['good', 'bad']}), folder/'g-bytes.parquet')
    for name in ('folder.toml', 'folder.csv', 'emptyfolder', 'poems', 'noparts', 'twoparts', 'torn'): (folder/name).mkdir()
    (folder/'poems'/'rose.txt').write_text('A rose.')
    (folder/'noparts'/'dev.csv').write_text(GOLD['g-good.csv'])
    for name in ('train.csv', 'train.tsv'): (folder/'twoparts'/name).write_text(GOLD['g-good.csv'])
    (folder/'torn'/'recipe.toml').write_text('n = = 5\n')
    (folder/'afile').write_text('here\n')
