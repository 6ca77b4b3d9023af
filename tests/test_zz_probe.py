import json, base64, concurrent.futures as cf, time, httpx, threading
from datetime import UTC, datetime, timedelta
from core.db import transaction
from tests import factories as make
from tests.conftest import *
from tests.parts import token, SECRET

def test_it(api, shared_database):
    with transaction() as db:
        p = make.people(db, questions=2)
    admin = api.as_user(p.ids["admin"])
    def show(name, a): print(name, a.status_code, a.headers.get("content-type"), a.text[:300])
    J={"content-type":"application/json"}
    show("surrogate field", admin.post("/api/users", content=b'{"\\ud800": 1}', headers=J))
    show("surrogate value", admin.post("/api/users", content=b'{"name": "\\ud800", "email":"a@b","role":"candidate"}', headers=J))
    show("surrogate role", admin.post("/api/users", content=b'{"name": "x", "email":"a@b","role":"\\ud800"}', headers=J))
    show("deep", admin.post("/api/users", content=b'['*20000, headers=J))
    show("deep ok", admin.post("/api/users", content=b'['*20000+b']'*20000, headers=J))
    show("utf8", admin.post("/api/users", content=b'{"name": "\xff"}', headers=J))
    show("utf16", admin.post("/api/users", content='{"name": "x"}'.encode('utf-16'), headers=J))
    show("nan", admin.post("/api/users", content=b'{"name": NaN}', headers=J))
    show("bigint", admin.post("/api/users", content=b'{"name": '+b'9'*5000+b'}', headers=J))
    show("empty", admin.post("/api/users", content=b'', headers=J))
    show("array", admin.post("/api/users", content=b'[]', headers=J))
    show("notjson", admin.post("/api/users", content=b'{', headers=J))
    show("noct", admin.post("/api/users", content=b'{}'))
    show("404", admin.get("/nope"))
    show("405", admin.delete("/api/users"))
    show("nul path", admin.get("/api/users/%00"))
    show("slash", admin.get("/api/users/", headers={"x-forwarded-proto":"https","x-forwarded-for":"6.6.6.6"})); print(admin.get("/api/users/", headers={"x-forwarded-proto":"https"}).headers)
    show("cursor", admin.get("/api/users?cursor=%C3%A9%00"))
    show("cursor", admin.get("/api/sessions?cursor=e30"))
    show("nel", admin.post("/api/users", json={"name":"a\x85b","email":"nel@b","role":"candidate"}))
    hdr = base64.urlsafe_b64encode(b'{"alg":"HS256","a":'+b'['*5000+b']'*5000+b'}').rstrip(b'=').decode()
    show("deep jwt", httpx.get(api.url+"/api/users", headers={"authorization":f"Bearer {hdr}.e30.AA"}))
    hdr = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":["a"]}').rstrip(b'=').decode()
    show("kid list jwt", httpx.get(api.url+"/api/users", headers={"authorization":f"Bearer {hdr}.e30.AA"}))
    import jwt
    far=datetime.now(UTC)+timedelta(hours=1)
    for c in ({"sub":p.ids["admin"],"exp":far,"ver":1},{"sub":str(p.ids["admin"]),"exp":1e300,"ver":1},{"sub":str(p.ids["admin"]),"exp":float("inf"),"ver":1},{"sub":str(p.ids["admin"]),"exp":10**15,"ver":1},{"sub":str(p.ids["admin"]),"exp":far,"ver":1,"iat":datetime.now(UTC)+timedelta(seconds=5)}):
        show(str(c), httpx.get(api.url+"/api/users", headers={"authorization":"Bearer "+jwt.encode(c,SECRET)}))
    # burst
    def one(i):
        t=time.time()
        a=httpx.get(api.url+"/api/users?limit=1", headers={"authorization":"Bearer "+token(p.ids["admin"])},timeout=60)
        return a.status_code, time.time()-t
    t=time.time()
    with cf.ThreadPoolExecutor(150) as ex:
        r=list(ex.map(one, range(300)))
    import collections
    print("burst", collections.Counter(x[0] for x in r), max(x[1] for x in r), time.time()-t)
    # double booking
    with transaction() as db:
        others=[make.people(db) for _ in range(12)]
    start=(datetime.now(UTC)+timedelta(days=3)).isoformat()
    rec=token(p.ids["recruiter"])
    def book(o):
        a=httpx.post(api.url+"/api/sessions", json={"candidate_id":o.candidate_id,"interview_id":o.interview_id,"interviewer_id":p.interviewer_id,"scheduled_start":start}, headers={"authorization":"Bearer "+rec},timeout=60)
        return a.status_code, a.json().get("detail")
    with cf.ThreadPoolExecutor(12) as ex: print(collections.Counter(x for x in ex.map(book, others)))
    print(api.log.read_text()[-3000:])
