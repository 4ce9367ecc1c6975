import sys, warnings; warnings.filterwarnings('ignore')
sys.path.insert(0,'.')
import numpy as np
from pathlib import Path
import heeding as h
from synthlab.embeddings import default_embedder
from synthlab.teacher.causal import CausalTeacher
model, names, texts = sys.argv[1], sys.argv[2].split(','), int(sys.argv[3])
t, e, C = CausalTeacher(model), default_embedder(), Path('CORPUS')
for name in names:
    rng=np.random.default_rng(0)
    task,pool,test=h.parts(C,name,rng,1000)
    v=[np.asarray(e.encode(list(p.text))) for p in (pool,test)]
    n=h.saving(t,task,pool,test,v,rng,rows=100); c=h.heeding(t,task,pool,e,rng,texts)
    print(name,'own %.3f others %.3f gap %.3f n %d | nats none %.3f random %.3f near %.3f saves %.3f'%(c['own'],c['others'],c['own']-c['others'],c['n'],n['none'],n['random'],n['near'],n['random']-n['near']),flush=True)
