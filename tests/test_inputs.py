"What people have is taken as it is: frames, Datasets, lists of dictionaries, Series, arrays; and what cannot be meant is refused with what to pass."
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from synthlab.data import DataError, as_table, load_gold
from synthlab.superglue import read_gold
from synthlab.tasks import Label, Task, load_task

POND = Task(name='pond', instruction='Write about {{ verbalisation }}.', labels=[Label(name='frogs', aliases=['0']), Label(name='herons', aliases=['1'])])
ROWS = [{'id': '007', 'text': 'They sing.\r\n', 'label': 'frogs'}, {'id': 'b', 'text': 'NA', 'label': 'herons'}, {'id': 'c', 'text': 'nan', 'label': 'frogs'}]
CLASSES = Features({'id': Value('string'), 'text': Value('string'), 'label': ClassLabel(names=['frogs', 'herons'])})
IN_MEMORY = {
    'dicts': lambda rows: list(rows), 'tuple': tuple, 'frame': pd.DataFrame, 'dataset': Dataset.from_list, 'arrow': pa.Table.from_pylist,
    'categories': lambda rows: pd.DataFrame(rows).astype({'label': 'category'}), 'strings': lambda rows: pd.DataFrame(rows).astype('string'),
    'odd index': lambda rows: pd.DataFrame(rows, index=[7, 7, 3]), 'numpy format': lambda rows: Dataset.from_list(rows).with_format('numpy'),
    'classes': lambda rows: Dataset.from_list(rows).cast_column('label', CLASSES['label']), 'parts': lambda rows: DatasetDict(test=Dataset.from_list(rows)),
    'parts in a dict': lambda rows: {'test': pd.DataFrame(rows), 'train': pd.DataFrame(rows[:1])}, 'numbers': lambda rows: pd.DataFrame(rows).assign(label=[0, 1, 0])}


# ---- gold rows

@pytest.mark.parametrize('kind', IN_MEMORY)
@pytest.mark.parametrize('read', [load_gold, read_gold])
def test_rows_in_memory_are_gold_rows(kind, read):
    assert read(IN_MEMORY[kind](ROWS), POND).to_list() == ROWS


def test_a_part_of_several_is_taken_by_name():
    parts = DatasetDict(train=Dataset.from_list(ROWS[:1]), validation=Dataset.from_list(ROWS[1:]))
    assert load_gold(parts, POND, 'train').to_list() == ROWS[:1]
    with pytest.raises(DataError, match="DatasetDict: no part 'test'; the parts are train, validation"): load_gold(parts, POND)
    with pytest.raises(DataError, match="did you mean 'validation'"): load_gold(parts, POND, 'valiadtion')


def test_columns_are_found_as_in_a_file():
    frame = pd.DataFrame({'review': ['They sing.'], 'stars': [0]})
    assert load_gold(frame, POND, text='review', label='stars').to_list() == [{'id': 'row-1', 'text': 'They sing.', 'label': 'frogs'}]
    with pytest.raises(DataError, match="DataFrame of 1 row(?s:.*)no column 'text'; the columns are 'review', 'stars'"): load_gold(frame, POND)


@pytest.mark.parametrize('made', [pd.DataFrame, list, Dataset.from_list])
def test_faults_of_rows_in_memory_name_row_and_value(made):
    rows = made([{'text': 'Hi', 'label': 'newts'}, {'text': None, 'label': 'frogs'}, {'text': ' ', 'label': None}])
    with pytest.raises(DataError) as refusal: load_gold(rows, POND)
    for part in ['of 3 rows', "row 1: label 'newts' is unknown", 'row 3: label None', 'row 2: text is empty', "row 3: text is empty: ' '"]: assert part in str(refusal.value)


def test_a_missing_label_is_missing_and_not_the_word_nan():
    for missing in (None, np.nan, pd.NA, pd.NaT):
        for rows in (pd.DataFrame({'text': ['a', 'b'], 'label': ['x', missing]}), [{'text': 'a', 'label': 'x'}, {'text': 'b', 'label': missing}]):
            with pytest.raises(DataError, match='row 2: label is empty'): load_gold(rows)


def test_a_text_that_is_a_number_is_refused():
    with pytest.raises(DataError, match='row 2: text is 3, of type int, not a string'): load_gold(pd.DataFrame({'text': ['a', 3], 'label': 0}), POND)


@pytest.mark.parametrize('rows, message', [
    (5, '5, of type int, holds no rows; give a DataFrame, a Dataset, a list of dictionaries, or the name of a file'),
    (pd.Series(['a']), 'of type Series, holds no rows'), (np.array(['a']), 'of type ndarray, holds no rows'),
    ({'text': ['a'], 'label': ['x']}, "a dict with the keys 'text', 'label' is no table; give a DataFrame"), ({}, 'no table'),
    (['a', 'b'], "row 1: 'a' is no dictionary"), ([], 'list of 0 rows: no rows'), (pd.DataFrame({'text': []}), 'no rows; its columns are text'),
    (pd.DataFrame([['a', 'b']], columns=['text', 'text']), "two columns are called 'text'"), (iter(ROWS), 'iterator, holds no rows')])
def test_what_holds_no_rows_is_refused_with_what_to_pass(rows, message):
    with pytest.raises(DataError, match=re.escape(message)): load_gold(rows, POND)


def test_a_task_with_several_fields_takes_rows_in_memory():
    rte, classes = load_task('rte'), Features({'premise': Value('string'), 'hypothesis': Value('string'), 'idx': Value('int32'), 'label': ClassLabel(names=['entailment', 'not_entailment'])})
    columns = {'premise': ['It rains.', 'It snows.'], 'hypothesis': ['It is wet.', 'It is hot.'], 'idx': [0, 1], 'label': [0, 1]}
    wanted = read_gold(pd.DataFrame(columns), rte).to_list()
    assert [row['label'] for row in wanted] == ['entailment', 'not_entailment'] and 'It rains.' in wanted[0]['text']
    assert read_gold(Dataset.from_dict(columns, features=classes), rte).to_list() == wanted
    assert read_gold(DatasetDict(validation=Dataset.from_dict(columns, features=classes)), rte).to_list() == wanted              # there is no labelled test part


def test_names_of_ids_and_places():
    table = as_table(pd.DataFrame({'text': ['a', 'b'], 3: [1, np.nan]}))
    assert (table.name, table.columns, table.place(1)) == ('DataFrame of 2 rows', {'text': ['a', 'b'], '3': [1., None]}, 'row 2')
