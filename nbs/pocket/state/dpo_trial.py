import sys,time; sys.path.insert(0,'.')
import numpy as np, torch, pandas as pd, torch.nn.functional as F
import prefer as P
from prefer import *
start, pairsf, out, lr, beta, best_w, usual_w, epochs = sys.argv[1], sys.argv[2], sys.argv[3], *map(float, sys.argv[4:9])
lim=int(sys.argv[9]) if len(sys.argv)>9 else 10**9
tok=AutoTokenizer.from_pretrained(start)
df=pd.concat([pd.read_parquet(f) for f in pairsf.split(',')])
held=df.iloc[:240]; df=df.iloc[240:]
enc=encoded(df,tok); pairs=in_batches(enc,16); hp=in_batches(encoded(held,tok),16)
model=AutoModelForCausalLM.from_pretrained(start,dtype=torch.float32); model.set_attn_implementation('float32_attention'); model.eval()
def ref(bs):
    with torch.no_grad(), torch.autocast('cpu',torch.bfloat16): return [log_probs(model,*b) for b in bs]
t=time.time(); s=ref(pairs); hs=ref(hp); print('ref',len(pairs),time.time()-t,flush=True)
opt=optimiser_of(model,lr); rng=np.random.default_rng(0)
def hold():
    model.eval(); d=[]
    for b,r in zip(hp,hs):
        with torch.no_grad(), torch.autocast('cpu',torch.bfloat16): lp=log_probs(model,*b)
        x,y=(lp-r).chunk(2); d.append(torch.stack([x,y]))
    d=torch.cat(d,1); model.train(); return ((d[0]>d[1]).float().mean().item(), d[0].mean().item(), d[1].mean().item())
stream=None
if usual_w: stream=iter(batches(Stream(read_sources(Path('CORPUS')),tok,10**6),2048))
order=[i for e in range(int(np.ceil(epochs))) for i in np.random.default_rng(e).permutation(len(pairs))][:min(lim,int(epochs*len(pairs)))]
start_t=time.time()
for n,i in enumerate(order):
    share=min((n+1)/10,1,1.5*(1-n/len(order)))
    for g in opt.param_groups: g['lr']=lr*share
    with torch.autocast('cpu',torch.bfloat16):
        lp=log_probs(model,*pairs[i]); b,w=(lp-s[i]).chunk(2)
        L=pairs[i][1].sum(1).chunk(2)[0]
        loss=-F.logsigmoid(beta*(b-w)).mean()-best_w*(lp.chunk(2)[0]/L).mean()
        if stream: loss=loss+usual_w*loss_of(model,*next(stream))
    loss.backward(); torch.nn.utils.clip_grad_norm_(model.parameters(),1.); opt.step(); opt.zero_grad()
    if (n+1)%25==0: print(n+1,'%.3f'%loss.item(),'held order %.3f best %.2f worst %.2f'%hold(),'%.1f min'%((time.time()-start_t)/60),flush=True)
print('end held order %.3f best %.2f worst %.2f'%hold())
model.to(torch.bfloat16).save_pretrained(out); tok.save_pretrained(out)
