import sys,time; sys.path.insert(0,'.')
import numpy as np, torch, itertools
from pathlib import Path
from train import *
from stream import *
import copy
from transformers import AutoModelForCausalLM, AutoTokenizer
start,out,minutes,lr=sys.argv[1],Path(sys.argv[2]),float(sys.argv[3]),float(sys.argv[4])
wA,wB,wC=map(int,sys.argv[5].split(','))
tok=AutoTokenizer.from_pretrained(start); model=AutoModelForCausalLM.from_pretrained(start,dtype=torch.float32); model.set_attn_implementation('float32_attention')
opt=optimiser_of(model,lr); rng=np.random.default_rng(int(time.time()))
sources=read_sources(Path('CORPUS'))
st=Stream(sources,tok,int(time.time())%10**6)
class Copies:
    "Few-shot with the text itself, or most of its words, among the demonstrations."
    def __iter__(self):
        while True:
            n=rng.choice(len(st.p),p=st.p); s=sources[n]; label=st._label(s); row=st._next(n,label)
            ask=st._asked(n,label); shots=int(rng.choice([1,1,1,2,3]))
            rows=[r for r in rng.choice(s.by_label[label],min(shots,len(s.by_label[label])),replace=False)]
            demos=[s.texts[r] for r in rows]; text=s.texts[row]
            keep=rng.choice([1.,.8,.6])
            words=text.split(); demos[rng.integers(len(demos))]=' '.join(w for w in words if rng.random()<keep) or text
            parts=[([2],0)]
            for d in demos: parts+=[(ask,0),(st._encode(d)+[3],0)]
            parts+=[(ask,0),(st._encode(text)+[3],1)]
            ids=list(itertools.chain.from_iterable(p for p,_ in parts)); loss=list(itertools.chain.from_iterable([m]*len(p) for p,m in parts))
            if len(ids)<=400: yield ids,loss
def random_batch(tokens):
    p=int(rng.choice([4,6,8,12,16,24,32,48])); r=int(rng.choice([2,3])) if p>8 else 4
    rows=max(tokens//(p*r),1)
    x=torch.tensor(rng.integers(5,12288,(rows,p))).repeat(1,r)
    ids=torch.cat([torch.full((rows,1),2),x],1); m=torch.zeros_like(ids).bool(); m[:,1+p:]=True
    return ids,m
B=batches(Copies(),wB) if wB else None; C=batches(st,wC) if wC else None
model.train(); t=time.time(); step=0; rec=[]
while (time.time()-t)/60<minutes:
    done=(time.time()-t)/60/minutes
    share=min(1,(step+1)/50,max(0,(1-done)/.2))
    for g in opt.param_groups: g['lr']=lr*share
    parts=[]
    with torch.autocast('cpu',torch.bfloat16):
        def one(b):
            l=loss_of(model,*b,shared_positions(b[0].shape[1],rng)); return l
        ls=[one(random_batch(wA)) if wA else None, one(next(B)) if B else None, one(next(C)) if C else None]
    sum(l for l in ls if l is not None).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(),1.); opt.step(); opt.zero_grad(); step+=1
    rec.append([l.item() if l is not None else 0 for l in ls])
    if step%20==0: print(step,np.mean(rec[-20:],0).round(3),'%.1f min'%((time.time()-t)/60),flush=True)
out.mkdir(exist_ok=True); copy.deepcopy(model).to(torch.bfloat16).save_pretrained(out); tok.save_pretrained(out)
