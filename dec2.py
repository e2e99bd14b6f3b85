import sys; sys.path.append("/tmp/poly/ic2")
import zipfile,time,numpy as np,cv2,imagecodecs as ic
from concurrent.futures import ThreadPoolExecutor
z=zipfile.ZipFile("/tmp/poly/sample.zip"); names=[n for n in z.namelist() if n.endswith(".png")][:5000]
b=[z.read(n) for n in names]
def tm(f,name):
    best=9
    for _ in range(3):
        t=time.perf_counter(); f(); best=min(best,time.perf_counter()-t)
    print(name, round(best/len(b)*1e6,1),"us")
out=np.empty((28,28,3),np.uint8)
tm(lambda:[cv2.imdecode(np.frombuffer(x,np.uint8),cv2.IMREAD_COLOR_RGB) for x in b],"cv2")
tm(lambda:[ic.png_decode(x,out=out) for x in b],"ic png"); 
try: tm(lambda:[ic.spng_decode(x,out=out) for x in b],"ic spng")
except Exception as e: print(e)
def two(c):
    o=np.empty((28,28,3),np.uint8)
    for x in c: ic.png_decode(x,out=o)
ex=ThreadPoolExecutor(2); tm(lambda:list(ex.map(two,[b[i:i+256] for i in range(0,5000,256)])),"ic png 2 threads")
assert (ic.png_decode(b[7])==cv2.imdecode(np.frombuffer(b[7],np.uint8),cv2.IMREAD_COLOR_RGB)).all()
