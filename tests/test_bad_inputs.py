"Bad inputs, each wrong in one way: the message has the value and what to do, and nothing is asked or written."
import contextlib
import io
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bad_files import write_bad_files

from synthlab import ChatTeacher, Recipe, Sampling, Task, bake_off, compare, evaluate, generate
from synthlab.cli import main as cli
from synthlab.decode import loop
from synthlab.measure.metric import add_measure, known_measures
from synthlab.teacher import chat
from synthlab.teacher.causal import CausalTeacher

BEGIN, FIRST = 'synthlab tasks show ag_news > mine.toml', 'synthlab recipes show fewgen'

# ---- the command line: words after `synthlab generate` (N: a task, W: with a recipe, G: with gold rows, O: the usual task), what is said, what to do
TASKS = '''
empty.toml              | line 1: no key 'name'                                    | which every task needs
nottoml.toml            | not TOML: Illegal character '\\n' (at line 1, column 13) | correct it there
latin.toml              | not UTF-8 in line 6                                      | save the file as UTF-8
utf16.toml              | not UTF-8 in line 1                                      | save the file as UTF-8
nolabels.toml           | no key 'labels'                                          | which every task needs
emptylabels.toml        | line 2: labels needs at least one entry                  | such as ["spam", "ham"]
wronglabels.toml        | line 2: labels must be a list, such as                   | ["spam", "ham"], got 5
twice.toml              | 'good' is a name of 2 labels                             | good, Good
noname.toml             | line 10: labels[1].name is empty                         | line 10
wrongplace.toml         | 'verbalization' is undefined                             | it may use verbalisation, label
brokenplace.toml        | line 2: instruction template                             | it may use verbalisation, label
zerotokens.toml         | line 3: max_new_tokens must be at least 1                | got 0
wordtokens.toml         | line 3: max_new_tokens must be a whole number            | got 'many'
unknownkey.toml         | unknown key 'max_new_token'                              | did you mean 'max_new_tokens'?
nullabel.toml           | line 11: labels[1].description holds a NUL character     | 'It is\\x00blame.'
nuldemo.toml            | line 12: labels[1].demonstrations[0] holds a NUL         | 'Du\\x00ll.'
emptydemo.toml          | labels[1].demonstrations[0] is empty                     | line 12
leak.toml               | test 'Dull.' of label 'bad' is a demonstration           | keep one of the two
long.toml               | a prompt may take 12043 tokens                           | use fewer or shorter demonstrations
fields.toml             | no key 'instruction'                                     | a jinja2 template that asks for them
attribute.toml          | attribute 'my key' needs a name of letters               | such as "form_and_length"
recipe-as-task.toml     | this is a recipe, and no task                            | name it with --recipe
numbername.toml         | name is empty                                            | line 1
somedemos.toml          | no demonstrations for 'bad'                              | add `demonstrations` to the task file
nodemos.toml            | cannot show 3 demonstrations of label 'good', which has 0 | ask for fewer shots
cue.toml                | line 3: cue is empty                                     | line 3
folder.toml             | 'folder.toml' cannot be read: Is a directory             | synthlab tasks show ag_news
mien.toml               | 'mien.toml' cannot be read: No such file                 | did you mean 'mine.toml'?
mine                    | no task 'mine'; did you mean 'mine.toml'?                | a path that ends in .toml
ag_new                  | no task 'ag_new'                                         | did you mean 'ag_news'?
'''
RECIPES = '''
r-empty.toml            | the file is empty: it must hold a recipe                 | synthlab recipes show fewgen
r-nottoml.toml          | not TOML: Expected ']'                                   | correct it there
r-latin.toml            | byte 0xe9 in position 8                                  | save the file as UTF-8
r-stage.toml            | a recipe has no stage 'selct'                            | did you mean 'select'?
r-choice.toml           | no choice 'radom' for the stage select                   | did you mean 'random'?
r-nochoice.toml         | [select] has no choice                                   | with one of none, random
r-list.toml             | choice = ['random'], which is no name                    | with one of none, random
r-option.toml           | correlated has no option 'gama'                          | did you mean 'gamma'?
r-type.toml             | gamma must be a number at least 0 and finite             | got 'much'
r-nan.toml              | gamma must be a number at least 0 and finite             | got nan
r-half.toml             | shots must be a whole number from 0                      | got 1.5
r-bool.toml             | shared must be true or false                             | got 'yes'
r-flat.toml             | [select] must be a table with a choice, got 'random'     | write [select] and choice =
r-name.toml             | name must be a string                                    | got 5
r-odd.toml              | per_record (3) must be a multiple of texts (2)           | so that a call writes from one record
r-misfit.toml           | select = "none" gives none                               | take select = "random"
r-targeted.toml         | 'nowhere.csv' of seeds cannot be read                    | name one that is there
r-nofile.toml           | no file 'nowhere.py'                                     | "Add your own" of the guide
r-noclass.toml          | plain.py has no class Mine that is registered            | @register('select') of synthlab.choice
r-raises.toml           | ZeroDivisionError: division by zero, line 1              | correct it
r-syntax.toml           | SyntaxError: invalid syntax                              | correct it
r-module.toml           | No module named 'no_such_package'                        | install it, or name a file
folder.toml             | folder.toml: Is a directory                              | the presets are fewgen
mine.toml               | this is a task, and no recipe                            | it goes where the task is named
r-stag.toml             | --recipe r-stag.toml: no such file                       | did you mean 'r-stage.toml'?
corsynth                | no recipe 'corsynth'                                     | did you mean 'corrsynth'?
combined-no-algin       | combined has no stage 'algin'                            | did you mean 'align'?
fewgen-no-decode        | fewgen has no stage 'decode' to leave out                | what it adds to FewGen: nothing
attrprompt              | attribute 'topic' needs a list of values                 | write them into the task
'''
GOLD = '''
g-empty.csv             | the file is empty                                        | give one with rows
g-head.csv              | no rows below the header 'text,label'                    | add some
g-latin.csv             | line 2: byte 0xe9 is not UTF-8                           | save the file as UTF-8
g-utf16.csv             | the file is UTF-16                                       | save it as UTF-8
g-nul.csv               | line 2: a NUL character, '\\x00'                         | remove it
g-notext.csv            | no column 'text'; the columns are 'review', 'label'      | call the right one 'text'
g-nolabel.csv           | no column 'label_text' or 'label'                        | call the right one 'label'
g-semicolon.csv         | the columns are 'text;label'                             | call the right one 'text'
g-unknown.csv           | line 2: label 'goood' is unknown (1 of 7 rows)           | did you mean 'good'?
g-missing.jsonl         | line 1: label None is unknown                            | the labels of task 'mine' are good, bad
g-nested.jsonl          | label ['good'] is unknown                                | did you mean 'good'?
g-emptytext.csv         | line 2: text is empty: ' '                               | correct such rows, or leave them out
g-ids.csv               | line 3: id 'x' is a duplicate of line 2                  | correct such rows
g-ragged.csv            | line 2: cells found 3, expected 2: 'Well, a joy.,good'   | quote a cell that contains ','
g-quote.csv             | line 2: ',' expected after '"'                           | its quotes doubled
g-cut.csv               | line 2: unexpected end of data                           | its quotes doubled
g-huge.csv              | line 2: field larger than field limit (131072)           | shorten it
g-twoheads.csv          | two columns are called 'text'                            | rename one
g-one.csv               | no demonstrations for 'bad'                              | use those of the task
g-few.csv               | cannot show 3 demonstrations of label 'good', which has 1 | ask for fewer shots
g-not.jsonl             | line 1: not JSON, Expecting value                        | line 1
g-list.jsonl            | line 1: not an object                                    | line 1
g-number.jsonl          | line 1: text is 5, of type int, not a string             | correct such rows
g-null.jsonl            | line 1: text is empty                                    | correct such rows
g-half.jsonl            | half a surrogate pair): '\\ud83d'                        | correct such rows
g-not.parquet           | not readable as Parquet                                  | write the file again
g-empty.parquet         | the file is empty                                        | give one with rows
g-norows.parquet        | no rows                                                  | its columns are text, label
g-bytes.parquet         | row 1: text is b'\\xff\\xfe', of type bytes              | correct such rows
g.json                  | cannot read .json                                        | it must be one of .csv, .tsv
g.xlsx                  | cannot read .xlsx                                        | save it as one
folder.csv              | folder.csv: no part 'train'; the parts are none          | name one in the folder train.csv
noparts                 | no part 'train'; the parts are dev                       | give a file
twoparts                | part 'train' occurs more than once                       | train.csv, train.tsv
g-god.csv               | --gold g-god.csv: no such file                           | did you mean 'g-good.csv'?
nowhere                 | nowhere: no such file or folder                          | the Hub gave no part 'train'
""                      | --gold: given, and empty                                 | leave it out
/dev/null               | cannot read a file without a suffix                      | save it as one
'''
OPTIONS = '''
--n 0                   | --n 0: it must be greater                                | than or equal to 1
--n 4 --n=-1            | --n=-1: it must be greater                               | than or equal to 1
--n 1.5                 | --n 1.5                                                  | it must be a valid integer
--temperature -1        | --temperature -1: it must be greater                     | than or equal to 0
--temperature nan       | --temperature nan                                        | greater than or equal to 0
--temperature inf       | temperature must be a finite number                      | got inf
--temperature hot       | --temperature hot                                        | it must be a valid number
--top-p 0               | top_p must be in (0, 1], got 0.0                         | 1 switches it off
--top-p 1.5             | --top-p 1.5: it must be less                             | than or equal to 1
--top-k -1              | --top-k -1                                               | greater than or equal to 0
--shots -1              | --shots -1                                               | greater than or equal to 0
--shots 9               | cannot show 9 demonstrations of label 'good', which has 3 | ask for fewer shots
--delta 5               | delta must lie between 0 and gamma = 1.0, got 5.0        | delta = gamma means none
--gamma inf             | gamma must be a number at least 0 and finite             | got inf
--max-new-tokens 0      | --max-new-tokens 0                                       | greater than or equal to 1
--max-new-tokens 5000   | a text 5000 more, and the teacher's context holds 1024   | a smaller max_new_tokens
--max-rows 1            | a group of corrsynth has 2 rows, and max_rows is 1       | raise max_rows
--budget 1              | the budget is 1                                          | raise it to 4 or more
--max-calls 0           | --max-calls 0                                            | greater than or equal to 1
--max-cost inf          | max_cost must be a number above 0                        | got inf
--max-cost 1            | max_cost needs a price, and that of 'pocket'             | --prices FILE
--seed x                | --seed x                                                 | it must be a valid integer
--proportions good=0.5,bad=0.7 | add up to 1.2, and not to 1                       | write good=0.417, bad=0.583
--proportions good=0.5  | the shares good=0.5 add up to 0.5                        | a label that is left out gets no row
--proportions good=-1,bad=2 | the proportion of 'good' must be a number            | at least 0, got -1.0
--proportions good=nan,bad=1 | the proportion of 'good' must be a number           | at least 0, got nan
--proportions good=0,bad=0 | proportions must not all be 0                         | got {'good': 0.0, 'bad': 0.0}
--proportions good=1,Good=1 | 'good=1,Good=1' names a label twice                  | twice
--proportions goood=1   | --proportions names 'goood'                              | did you mean 'good'?
--proportions good      | --proportions 'good' cannot be read                      | write NAME=SHARE
--proportions good=x    | --proportions has 'x'                                    | where a number should be
--teacher pockt         | there is no folder 'pockt', and no model of that name    | did you mean 'pocket'?
--teacher emptyfolder   | cannot load the model 'emptyfolder'                      | Use "pocket", a folder with
--teacher ""            | --teacher: given, and empty                              | leave it out
--device warp           | --device 'warp' cannot be used here                      | auto takes what there is
--device meta           | device 'meta' is not one that torch knows                | use auto, cpu, cuda
--dtype int8            | dtype 'int8' is not a floating-point type                | use auto, float32
--revision main         | --revision main: only models on the Hub have revisions   | Leave it out
--device-map atuo       | --device-map atuo                                        | 'auto', 'balanced', 'sequential'
--device cpu --device-map auto | cannot both say where the model goes              | leave one of them out
--duplicates same       | --duplicates same                                        | 'exact', 'words', 'meaning', 'keep'
--decontaminate g-empty.csv | the file is empty                                    | give one with rows
--recipe fewgen --gamma 2 | --gamma: the recipe fewgen does not use it             | Leave it out
--recipe fewgen --corrector pocket | --corrector: fewgen corrects no labels        | Leave it out
--corrector-url http://x | --corrector-url: there is no --corrector                | Leave it out
--shots 0 --gold g-good.csv | --gold: with shots = 0 no examples are shown         | Leave it out
--intra-share 0.2       | --intra-share: only --mode hybrid uses it                | Leave it out
--concurrency 3         | --concurrency: there is no --base-url                    | Leave it out
--recipe targen --shots 2 | --shots: the recipe targen does not use it             | Leave it out
--recipe targen --max-new-tokens 20 | --max-new-tokens: how long a row may be      | Leave it out
--recipe targen --seeds-from g-good.csv --contexts-from g.txt | contexts_from = 'g.txt' is of no use | take one of the two back
--recipe attrprompt --records g-good.csv | source must be extracted                | got 'g-good.csv'
--fork poems            | poems holds no run: there is no recipe.toml              | name the folder of one
--select own.py:Mine --skip 1 | No such option: --skip                             | set them in the recipe file
--recipe r-own.toml --skip 1 | No such option: --skip                              | synthlab recipes --help
--gama 2                | No such option: --gama                                   | --gamma
-n 2                    | No such option: -n                                       | Did you mean --n?
--prompt fewshot        | no choice 'fewshot' for the stage prompt                 | did you mean 'few-shot'?
--prices nowhere.toml   | --prices nowhere.toml: no such file                      | did you mean
--prices p-not.toml     | p-not.toml: not TOML                                     | correct it there
--prices p-keys.toml    | got {'prompts': 1.0}                                     | {'prompt': ..., 'completion': ...}
--prices p-word.toml    | each 0 or more, got 'cheap'                              | {'prompt': ..., 'completion': ...}
--prices p-minus.toml   | each 0 or more, got -1.0                                 | {'prompt': ..., 'completion': ...}
--prices p-nan.toml     | each 0 or more, got nan                                  | {'prompt': ..., 'completion': ...}
--out afile             | afile is a file                                          | choose another name
--out afile/run         | afile is a file                                          | choose another name
--out poems             | poems holds rose.txt, which is no run                    | choose another folder
--out torn              | torn/recipe.toml cannot be read                          | choose another folder
--out .                 | which is no run                                          | choose another folder
'''
SERVER = '''
--base-url localhost:8000 | base_url must begin with http:// or https://           | such as http://localhost:8000/v1
--base-url http://      | base_url must begin with                                 | such as http://localhost:8000/v1
--base-url ftp://x/v1   | base_url must begin with                                 | such as http://localhost:8000/v1
--base-url http://u:pw@localhost/v1 | base_url must be an address only             | in an environment variable
--base-url http://localhost:99999/v1 | a port from 1 to 65535                      | such as http://localhost:8000/v1
--base-url http://localhost:port/v1 | a port from 1 to 65535                       | such as http://localhost:8000/v1
--base-url "http://local host/v1" | have no blank                                  | such as http://localhost:8000/v1
--base-url http://[::1  | base_url must begin with                                 | such as http://localhost:8000/v1
--base-url ""           | --base-url: given, and empty                             | an unset variable?
--base-url http://x/v1 --recipe corrsynth | a ChatTeacher shows none               | FewGen: decode = "independent"
--base-url http://x/v1 --device cpu | --device: a server decides it                | Leave it out
--base-url http://x/v1 --compiled | --compiled: a server decides it                  | Leave it out
--base-url http://x/v1 --max-rows 3 | --max-rows: a server decides it              | Leave it out
--base-url http://x/v1 --timeout 0 | --timeout 0                                   | greater than or equal to 0.1
--base-url http://x/v1 --timeout inf | timeout must be a finite number             | got inf
--base-url http://x/v1 --concurrency 0 | --concurrency 0                           | greater than or equal to 1
--base-url http://x/v1 --key-variable NOT_SET_HERE | NOT_SET_HERE: this environment variable is not set | export NOT_SET_HERE=
--base-url http://x/v1 --key-variable sk-12 | takes the name of an environment variable | such as MY_KEY
'''
OTHERS = '''
status poems            | poems holds no run: there is no run.db                   | name the folder of one
resume nowhere          | nowhere holds no run                                     | name the folder of one
resume torn             | torn/recipe.toml cannot be read: Invalid value (at line 1 | choose another folder
replay torn x           | torn/recipe.toml cannot be read                          | choose another folder
export poems            | poems holds no run                                       | name the folder of one
export poems --format hub | --format hub needs                                     | --repo USER/NAME
export poems --format xml | --format xml: 'xml' is not one of                      | 'parquet', 'jsonl'
evaluate g-god.csv      | g-god.csv: no run and no file of this name               | did you mean 'g-good.csv'?
evaluate afile          | cannot read a file without a suffix                      | save it as one
evaluate poems          | poems holds no run                                       | name the folder of one
evaluate g-head.csv     | no rows below the header                                 | add some
evaluate g-nested.jsonl | line 1: label is ['good'], of type list                  | correct such rows
evaluate g-weight.csv   | line 2: weight is 'heavy'                                | or leave the column out
evaluate g-good.csv --task sst2 | line 2: label 'good' is unknown (3 of 6 rows)    | `aliases` in the task file
evaluate g-good.csv --text reviw | no column 'reviw'                               | the columns are 'text', 'label'
evaluate g-good.csv --student nowhere | there is no student 'nowhere'              | give auto, minilm, probe, a folder
evaluate g-good.csv --student-recipe quik | no recipe 'quik'                       | did you mean 'quick'?
evaluate g-good.csv --extractor ruls | there is no extractor 'ruls'                | give rules
evaluate g-good.csv --seeds 0 | --seeds 0                                          | greater than or equal to 1
evaluate g-good.csv --most 1 | --most 1                                            | greater than or equal to 10
evaluate g-good.csv --gold nowhere.csv | --gold nowhere.csv: no such file          | did you mean
evaluate g-good.csv --out afile | out = 'afile': afile is a file                   | choose another name
evaluate g-good.csv --out afile/x.html | afile is a file                           | choose another name
compare g-good.csv      | needs two runs or more, or other datasets                | got 1
compare g-good.csv g-good.csv | a run or dataset was named twice                   | twice
tasks show ag_new       | no task 'ag_new'                                         | did you mean 'ag_news'?
tasks shwo              | No such command 'shwo'                                   | Did you mean 'show'?
recipes show r-stage.toml | a recipe has no stage 'selct'                          | did you mean 'select'?
demo --n 2              | --n 2                                                    | greater than or equal to 8
bake-off mine.toml --recipes fewgen --out b | Missing option                       | '--budget'
bake-off mine.toml --recipes fewgen --budget 0 --out b | --budget 0                | greater than or equal to 1
bake-off mine.toml --recipes fewgen,fewgen --budget 99 --out b | two recipes are named 'fewgen' | write another name
bake-off mine.toml --recipes fewgn --budget 99 --out b | no recipe 'fewgn'         | did you mean 'fewgen'?
bake-off mine.toml --recipes , --budget 99 --out b | no recipe was named           | such as fewgen,corrsynth
bake-off mine.toml --recipes fewgen --budget 99 --student nowhere --out b | there is no student 'nowhere' | give auto, minilm
bake-off mine.toml --recipes fewgen --budget 99 --show many --out b | many: no such file or folder | the Hub gave no part
bake-off mine.toml --recipes fewgen --budget 99 --out afile | afile is a file      | choose another name
bake-off mine.toml --recipes fewgen --budget 99 --out poems | poems holds rose.txt | choose another folder
'''
# What can be carried out, and is hardly meant: said before the first call.
ODD = '''
onelabel.toml --shots 1 | has one label only, 'good'                               | Add the other labels
noplace.toml            | is the same for 2 labels (good, bad): 'Write a note.'    | Put {{ verbalisation }}
twicedemo.toml          | 1 of 6 texts repeat an earlier one ('Dull.' occurs 2 times) | Keep each once
crossdemo.toml          | 1 of 5 texts are under several labels ('A joy.' under good, bad) | Keep each under the right one
mine.toml --gold g-five.csv | 24 of 30 texts repeat an earlier one ('A joy to hold.' occurs 5 times) | Keep each once
mine.toml --gold g-crossed.csv | 'Flat and grey.' under good, bad                  | Keep each under the right one
mine.toml --gold g-good.csv --decontaminate g-good.csv | 6 of 6 are among the rows that no row may copy | take them out of one of the two
mine.toml --n 1         | 1 rows are too few for the 2 labels of 'mine': some get none (bad) | Ask for more rows
mine.toml --proportions good=0.99,bad=0.01 | some get none (bad)                   | or leave these labels out
'''


def rows_of(table, before='', after=''):
    "Command, message and cure of each line."
    parts = [[part.strip() for part in line.split(' | ')] for line in table.strip().splitlines()]
    return [pytest.param(f'{before}{words}{after}', told, cure, id=words) for words, told, cure in parts]


REFUSED = [*rows_of(TASKS, 'generate ', ' --n 4 --out run'), *rows_of(RECIPES, 'generate mine.toml --recipe ', ' --n 4 --out run'),
           *rows_of(GOLD, 'generate mine.toml --gold ', ' --n 4 --out run'), *rows_of(OPTIONS, 'generate mine.toml --n 4 --out run '),
           *rows_of(SERVER, 'generate mine.toml --recipe fewgen --teacher owl --n 4 --out run '), *rows_of(OTHERS)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bad')
    write_bad_files(folder)
    return folder


def tree(folder): return sorted((str(path.relative_to(folder)), path.stat().st_size) for path in folder.rglob('*') if '__pycache__' not in path.parts)


@pytest.fixture
def untouched(folder, monkeypatch):
    "The folder with the bad files as the current one; afterwards nothing has been written, and no teacher asked."
    monkeypatch.chdir(folder)
    monkeypatch.setenv('COLUMNS', '200')
    asked = []
    for kind in (loop.Decoding, chat._Line): monkeypatch.setattr(kind, '__init__', lambda self, *_, **__: asked.append(type(self).__name__))
    before = tree(folder)
    yield
    assert tree(folder) == before and not asked


def run(words):
    "Exit status, and what was printed on standard error."
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err): status = cli.main(shlex.split(words))
    return status, out.getvalue(), err.getvalue()


def test_there_are_enough():
    assert len(REFUSED) >= 200 and len({param.id for param in REFUSED}) > 190


@pytest.mark.parametrize('words, told, cure', REFUSED)
def test_a_bad_command_is_refused_in_a_line(untouched, words, told, cure):
    status, out, err = run(words)
    assert (status, out) == (2, '')
    assert told in err and cure in err, err
    assert len([line for line in err.splitlines() if line.strip()]) == 1 and 'Traceback' not in err


@pytest.mark.parametrize('option, name, told', [('seeds', 'g.xlsx', 'cannot read .xlsx'), ('contexts', 'g.xlsx', 'cannot read .xlsx'), ('seeds', 'g-empty.csv', 'the file is empty'), ('contexts', 'g-good.csv', "no column 'context'")])
def test_a_file_is_refused_before_a_teacher_is_loaded(untouched, monkeypatch, option, name, told):
    loaded = []
    cli._teacher_at.cache_clear()
    monkeypatch.setattr(CausalTeacher, '__init__', lambda *_, **__: loaded.append(1))
    status, _, err = run(f'generate mine.toml --recipe targen --{option}-from {name} --n 4 --out run')
    assert status == 2 and told in err and not loaded
    with pytest.raises(ValueError, match=told): generate('mine.toml', 4, Recipe.targen(**{f'{option}_from': name}), out='run', teacher='pocket')
    assert not loaded


@pytest.mark.parametrize('text, told', [('{"label": "good"}', "line 1"), ('{"id": "a", "label": "good", "attributes": {"tone": "dry"}}', "has no record for 'bad'"), ('', 'the file is empty')])
def test_attributes_are_refused_before_a_teacher_is_loaded(tmp_path, monkeypatch, text, told):
    (tmp_path/'mine.toml').write_text(MINE.to_toml(), encoding='utf-8'), (tmp_path/'r.jsonl').write_text(text)
    monkeypatch.chdir(tmp_path)
    cli._teacher_at.cache_clear()
    monkeypatch.setattr(CausalTeacher, '__init__', lambda *_, **__: pytest.fail('a teacher was loaded'))
    status, _, err = run('generate mine.toml --recipe synalign --align none --records r.jsonl --select none --n 4 --out run')
    assert status == 2 and told in err and not Path('run').exists()
    with pytest.raises(ValueError, match=told): generate('mine.toml', 4, Recipe.synalign(source='r.jsonl', select='none', align='none'), out='run', teacher='pocket')


@pytest.mark.parametrize('words, told', [
    ('--gold g-nolabel.csv', 'g-nolabel.csv'), ('--gold g-good.csv --gold-train g-empty.csv', 'the file is empty'), ('--show g-empty.csv', 'the file is empty'),
    ('--recipes fewgen,targen.toml', 'cannot read .xlsx'), ('--student nowhere', "no student 'nowhere'"), ('--actors 2', '--actors: there is no --ray')])
def test_a_bake_off_reads_its_files_before_a_teacher_is_loaded(untouched, folder, monkeypatch, words, told):
    recipe = folder.parent/'targen.toml'
    recipe.write_text(Recipe.targen(seeds_from='g.xlsx').to_toml())
    cli._teacher_at.cache_clear()
    monkeypatch.setattr(CausalTeacher, '__init__', lambda *_, **__: pytest.fail('a teacher was loaded'))
    status, _, err = run(f"bake-off mine.toml --recipes fewgen --budget 99 --out b {words.replace('targen.toml', str(recipe))}")
    assert status == 2 and told in err, err


@pytest.mark.parametrize('words, told, cure', rows_of(ODD, 'generate ', ' --estimate --recipe fewgen --out run'))
def test_what_is_hardly_meant_is_said_before_it_costs(untouched, words, told, cure):
    status, out, err = run(words if '--n ' in words else f'{words} --n 4')
    assert status == 0 and told in err and cure in err, err


def test_a_sound_task_and_sound_rows_get_no_warning(untouched):
    for name in ('mine.toml', 'bom.toml'):
        assert run(f'generate {name} --gold g-good.csv --estimate --recipe fewgen --n 4 --out run')[::2] == (0, '')


@pytest.mark.parametrize('words, told', [('generate latin.toml --n 4 --out run', 'save the file as UTF-8'), ('generate mine.toml --recipe r-raises.toml --n 4 --out run', 'ZeroDivisionError')])
def test_no_traceback_in_a_process_of_its_own(folder, words, told):
    before = tree(folder)
    done = subprocess.run([sys.executable, '-m', 'synthlab.cli.main', *words.split()], cwd=folder, capture_output=True, text=True,
                          env={**__import__('os').environ, 'PYTHONPATH': str(Path(__file__).parents[1])})
    assert done.returncode == 2 and told in done.stderr and 'Traceback' not in done.stderr and tree(folder) == before


# ---- Python

ROWS = [{'text': f'A {word} thing, number {i}.', 'label': label} for i in range(6) for word, label in (('fine', 'good'), ('dull', 'bad'))]
MINE = Task(name='mine', labels=['good', 'bad'], instruction='Write a note that is {{ label }}.')


def asked(**options): return lambda: generate(MINE, **({'n': 2, 'recipe': Recipe.fewgen(shots=0), 'out': 'run'} | options))


CALLS = {
    'n is a word': (asked(n='5'), "n must be a whole number, got '5'"), 'n is a fraction': (asked(n=2.5), 'n must be a whole number, got 2.5'),
    'n is a truth value': (asked(n=True), 'n must be a whole number, got True'), 'n is 0': (asked(n=0), 'n must be at least 1, got 0'), 'n is below 0': (asked(n=-3), 'n must be at least 1, got -3'),
    'seed': (asked(seed=None), 'seed must be a whole number, got None'), 'task': (lambda: generate(5, 2, out='run'), 'as in Task(name="mine", labels=["spam", "ham"]), got 5'),
    'recipe': (asked(recipe=5), 'as in Recipe.corrsynth(delta=.5), got 5'), 'recipe not called': (asked(recipe=Recipe.corrsynth), 'a recipe is the name of a preset'),
    'out is a number': (asked(out=5), 'out must be the name of a folder, such as "runs/mine", or None, got 5'), 'out is empty': (asked(out=''), "or None, got ''"),
    'fork': (asked(fork=5), 'fork must be the name of a folder'), 'teacher': (asked(teacher=5), '5, of type int, is not a teacher: pass "pocket"'),
    'teacher class': (asked(teacher=CausalTeacher), 'the class CausalTeacher is not a teacher: pass'), 'corrector': (asked(recipe=Recipe.targen(), corrector=5), '5, of type int, is not a teacher'),
    'shares': (asked(proportions={'good': .5, 'bad': .7}), 'write good=0.417, bad=0.583'), 'shares as a list': (asked(proportions=[.5, .5]), "proportions must be a table such as {'good': 1}, got [0.5, 0.5]"),
    'a share twice': (asked(proportions={'good': 1, 'Good': 1}), 'proportions name a label twice'), 'share of none': (asked(proportions={'goood': 1}), "did you mean 'good'?"),
    'temperature': (asked(temperature='hot'), "temperature must be a finite number, got 'hot'"), 'endless heat': (asked(temperature=float('inf')), 'got inf'),
    'top_p': (asked(top_p='0.5'), "top_p must be a finite number, got '0.5'"), 'top_k': (asked(top_k=2.5), 'top_k must be a whole number, got 2.5'),
    'max_new_tokens': (asked(max_new_tokens=2.5), 'max_new_tokens must be a whole number, got 2.5'), 'sampling': (asked(sampling={'temperature': 1}), 'as in Sampling(temperature=.8), got'),
    'said twice': (asked(sampling=Sampling(), temperature=1), 'say it in one place'), 'max_calls': (asked(max_calls='5'), "max_calls must be a whole number above 0, or None for no limit, got '5'"),
    'prices': (asked(prices='p-keys.toml'), "prices must be a table such as {'my-model'"), 'budget': (asked(budget=9.5), 'budget must be a whole number from 1, got 9.5'),
    'max_rows': (asked(max_rows=0), 'max_rows must be a whole number from 1, got 0'), 'max_rows, half': (asked(max_rows=8.5), 'max_rows must be a whole number from 1, got 8.5'),
    'embedder': (asked(recipe='synalign', embedder=5), 'embedder must be an Embedder'), 'device': (asked(device='meta'), "device 'meta' is not one that torch knows; use auto"),
    'gold': (asked(recipe=Recipe.fewgen(shots=1), gold=['a', 'b']), "row 1: 'a' is no dictionary"), 'gold without a name': (asked(recipe=Recipe.fewgen(shots=1), gold=''), "the gold data is named ''; give a file"),
    'gold without labels': (asked(recipe=Recipe.fewgen(shots=1), gold=pd.DataFrame({'text': ['a']})), "no column 'label_text' or 'label'; the columns are 'text'"),
    'decontaminate': (asked(decontaminate=5), 'decontaminate must be a list, got 5'), 'duplicates': (asked(duplicates='same'), "duplicates must be one of keep, exact, words, meaning, got 'same'"),
    'a stage by its name': (lambda: Recipe('random'), 'pass an object such as'), 'a stage by a number': (lambda: Recipe.fewgen(select=5), "5 is no choice for the stage 'select'"),
    'recipe name': (lambda: Recipe(name=5), 'name must be a string, got 5'), 'recipe file': (lambda: Recipe.from_toml(5), 'got 5'), 'recipe table': (lambda: Recipe.from_table(5), 'begin with synthlab recipes show'),
    'label with an escape': (lambda: Task(name='x', labels=['a\x1b[2J', 'b']), "labels[0].name holds a control character or a line break: 'a\\x1b[2J'; take it out"),
    'label with a line break': (lambda: Task(name='x', labels=['a\nb', 'b']), 'take it out'), 'server': (lambda: ChatTeacher('owl', 'http://localhost:port/v1'), 'such as http://localhost:8000/v1'),
    'server time-out': (lambda: ChatTeacher('owl', 'http://x/v1', timeout='9'), "timeout must be a finite number, got '9'"), 'requests at a time': (lambda: ChatTeacher('owl', 'http://x/v1', concurrency=2.5), 'whole number from 1, got 2.5'),
    'model': (lambda: ChatTeacher(5, 'http://x/v1'), 'as the server knows it'), 'rows to measure': (lambda: evaluate(ROWS, n=0), 'n must be a whole number from 1, got 0'),
    'seeds': (lambda: evaluate(ROWS, seeds=3), 'such as range(3), got 3'), 'no seeds': (lambda: evaluate(ROWS, seeds=()), 'one seed or more'), 'most': (lambda: evaluate(ROWS, most=0), 'most must be a whole number from 1, got 0'),
    'student': (lambda: evaluate(ROWS, student=5), 'None or a Student, got 5'), 'no such student': (lambda: evaluate(ROWS, student='minlm'), "did you mean 'minilm'?"),
    'page in a file': (lambda: evaluate(ROWS, student=None, out='afile'), 'afile is a file, and a folder is needed there'), 'encoder': (lambda: evaluate(ROWS, embedder='x'), "encode(texts), got 'x'"),
    'one dataset': (lambda: compare([ROWS]), 'needs two runs or more, or other datasets, got 1'), 'recipes': (lambda: bake_off(MINE, 5, 100, out='b'), 'such as "fewgen,corrsynth", or a list of recipes, got 5'),
    'tokens': (lambda: bake_off(MINE, 'fewgen', 'many', out='b'), "budget must be a whole number, got 'many'"),
    'misspelt word': (lambda: add_measure('mine', len, titel='x'), "add_measure has no word 'titel'; did you mean 'title'?"), 'no function': (lambda: add_measure('mine', 5), 'mine: the function must take texts'),
    'no name': (lambda: add_measure('', len), 'such as "long_words"'), 'range': (lambda: add_measure('mine', lambda texts: 1, range=5), 'such as [0, 1], got 5')}


@pytest.mark.parametrize('call, told', CALLS.values(), ids=CALLS)
def test_a_bad_call_is_refused(untouched, call, told):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with pytest.raises(ValueError) as refusal: call()
    assert told in str(refusal.value)


def test_numbers_of_numpy_are_numbers(untouched):
    Sampling(max_new_tokens=np.int64(5), temperature=np.float64(.5))


def test_options_of_ones_own_class_are_refused_with_the_place_where_they_are_set():
    assert 'add_measure' in run('recipes --help')[1] and 'Selecting' in run('recipes --help')[1]


# ---- metrics of one's own

def quick(rows, **options): return evaluate(rows, student=None, progress=False, **options)


def boom(texts): raise ZeroDivisionError('nothing to divide')


@pytest.mark.parametrize('function, told', [(boom, 'mine failed: ZeroDivisionError: nothing to divide (test_bad_inputs.py, line'), (lambda texts: 'x', "mine gave 'x': return one number per text"),
                                            (lambda texts: [1, 2], 'mine gave values of shape (2,) for 12 texts'), (lambda texts: {}['key'], "mine failed: KeyError: 'key'")])
def test_a_measure_of_ones_own_that_fails_is_named_and_the_others_are_taken(function, told):
    add_measure('fine', lambda texts: 1.)
    add_measure('mine', function)
    try:
        with pytest.warns(UserWarning, match="the measure 'mine' was left out"): record = quick(ROWS)
    finally:
        for name in ('fine', 'mine'): known_measures().pop(name)
    found = {entry['name']: entry for entry in record['sections']['own_measures']}
    assert told in found['mine']['skipped'] and found['fine']['value'] == 1 and record['sections']['diversity'][0]['value'] > 0


@pytest.mark.parametrize('rows, options, told', [
    ([row for row in ROWS if row['label'] == 'good'], {}, "all 6 rows have one label, 'good'"), (ROWS, {'n': 99}, 'n = 99, and list of 12 rows has 12 rows: all are measured'),
    (ROWS, {'gold': [row for row in ROWS if row['label'] == 'good']}, 'the real rows (test): 1 of 2 labels have none (bad)'), (ROWS, {'gold': ROWS*5}, '48 of 60 texts repeat an earlier one')])
def test_what_measures_would_mislead_with_is_said(rows, options, told):
    with pytest.warns(UserWarning) as said: quick(rows, **options)
    assert any(told in str(warning.message) for warning in said)


# ---- classes of one's own

OWN = '''from dataclasses import dataclass
import numpy as np
from synthlab.align.choices import Aligned, Aligning
from synthlab.choice import option, register
from synthlab.select.choices import Selecting


@register('align')
@dataclass(frozen=True)
class Bare(Aligning):
    """All rows count alike."""
    choice = 'bare'
    def align(self, texts, labels, pool, wanted, seed=0, embedder=None): return Aligned(np.ones(len(texts)), np.ones(len(texts), bool), {'width': 1.5})


@register('align')
@dataclass(frozen=True)
class Short(Bare):
    """Forgets a row."""
    choice = 'short'
    def align(self, texts, labels, pool, wanted, seed=0, embedder=None): return Aligned(np.ones(len(texts) - 1), np.ones(len(texts), bool), {})


@register('select')
@dataclass(frozen=True)
class Beyond(Selecting):
    """Takes rows that are not there."""
    choice = 'beyond'
    def pick(self, X, n, seed): return [len(X)]*n


@register('select')
@dataclass(frozen=True)
class Lone(Selecting):
    """Takes a single row."""
    choice = 'lone'
    def pick(self, X, n, seed): return [0]
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    from synthlab.choice import CHOICES
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('COLUMNS', '200')
    Path('mine.toml').write_text((write_bad_files.__globals__['TASK']))
    Path('own.py').write_text(OWN)
    yield lambda words: run(f'generate mine.toml --n 4 --recipe fewgen --out run {words}')
    for kinds in CHOICES.values():
        for name in [name for name, kind in kinds.items() if kind.__module__.startswith('synthlab_choices_own_')]: del kinds[name]


def test_an_aligner_of_ones_own_says_what_it_measured(own):
    status, out, err = own('--align own.py:Bare --shots 1 --max-new-tokens 11')
    assert status == 0 and 'Aligned. width 1.5.' in out, err
    assert 'What the alignment measured: width 1.5.' in Path('run/README.md').read_text(encoding='utf-8')
    assert run('status run')[0] == 0


@pytest.mark.parametrize('words, told', [
    ('--align own.py:Short', 'Short.align must return an Aligned with a weight of 0 or more'), ('--select own.py:Beyond --shots 1', 'Beyond.pick returned row 3, and the label has the rows 0 to 2'),
    ('--select own.py:Lone --shots 2', 'Lone.pick returned 1 rows, and a prompt shows 2: lower shots to 1')])
def test_what_a_class_of_ones_own_returns_is_checked(own, words, told):
    status, _, err = own(words)
    assert status == 2 and told in err and 'Traceback' not in err


