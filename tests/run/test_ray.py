"Actors of Ray on this machine: the rows of one process, also when an actor is killed."
import os
import signal
import time
import warnings

import pytest
from synthlab.decode.sampling import Sampling
from synthlab.run.engine import RayEngine
from synthlab.run.produce import make_config, produce
from synthlab.run.recipe import Recipe
from synthlab.store.runs import OUTBOX, read_rows
from synthlab.tasks.task import load_task
from synthlab.teacher.causal import CausalTeacher


class Killing(RayEngine):
    "Kills the process of its first actor when the first result has come."

    killed = None

    def value(self, ticket):
        told = super().value(ticket)
        if told.get('process') and not self.killed: self.killed = [told['process']]
        if told.get('done') and len(self.killed) == 1:
            os.kill(self.killed[0], signal.SIGKILL)
            self.killed.append('once')
        return told


def written(out, engine=None):
    recipe = make_config(Recipe.corrsynth(delta=.5, shots=1), load_task('sst2'), teacher := CausalTeacher('pocket', max_rows=8), 24, sampling=Sampling(12, .95, .9), machine={'max_rows': 8})
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        produce(recipe, out, teacher, watch=lambda groups, *_: groups, engine=engine)
    return (out/'dataset.jsonl').read_bytes(), list(read_rows(out, None))


def test_actors_write_the_rows_of_one_process_though_one_is_killed(cluster, tmp_path):
    engine, alone = Killing(2), written(tmp_path/'alone')
    assert written(tmp_path/'actors', engine) == alone
    assert engine.killed[1:] == ['once'] and not (tmp_path/'actors'/OUTBOX).exists()


def test_a_cluster_that_is_not_there_is_said_at_once(cluster):
    start = time.monotonic()
    with pytest.raises(ValueError, match='nobody answers'): RayEngine(1, '127.0.0.1:1')
    assert time.monotonic() - start < 6
