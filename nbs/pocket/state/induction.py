import sys, warnings; warnings.filterwarnings('ignore')
sys.path.insert(0,'.')
import numpy as np, heeding as h
from pathlib import Path
from evaluate import nats_per_char
from synthlab.teacher.causal import CausalTeacher
C=Path('CORPUS')
for m in sys.argv[1].split(','):
    t=CausalTeacher(m)
    for name in sys.argv[2].split(','):
        rng=np.random.default_rng(0); task,pool,test=h.parts(C,name,rng,1000); test=test.iloc[:60]
        def half(x):
            w=x.split(); return ' '.join(v for v in w if rng.random()>.4) or x
        rand=[(pool[pool.label==l].text.sample(1,random_state=i).iloc[0],) for i,l in enumerate(test.label)]
        n=lambda shown:nats_per_char(t,[(h.asked(task,l,d),x) for x,l,d in zip(test.text,test.label,shown)])
        print(m,name,'none %.3f random %.3f same %.3f 60%% of words %.3f'%(n([()]*len(test)),n(rand),n([(x,) for x in test.text]),n([(half(x),) for x in test.text])),flush=True)
