"""/users/<id>: HTML for a browser, JSON for a program; PUT and DELETE change it."""

from json import JSONDecodeError

from tqserver.page import JSONResponse, Request, render

# In memory: a reload starts anew. What must outlive a process belongs into a database.
users = {"1": "Ada", "7": "Grace"}


def get(request: Request):
    identity = request.path_params["id"]
    name = users.get(identity)
    if "text/html" not in request.headers.get("accept", ""):
        return {"id": identity, "name": name} if name else missing(identity)
    page = render("user.html", id=identity, name=name, others=sorted(users), url=request.url)
    page.status_code = 200 if name else 404
    return page


async def put(request: Request):
    try:
        name = str((await request.json())["name"]).strip()
    except (JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        name = ""
    if not name:
        return JSONResponse({"error": 'expected JSON such as {"name": "Ada"}'}, 400)
    identity = request.path_params["id"]
    status = 200 if identity in users else 201
    users[identity] = name
    return JSONResponse({"id": identity, "name": name}, status)


def delete(request: Request):
    identity = request.path_params["id"]
    return None if users.pop(identity, None) else missing(identity)  # None is 204 No Content


def missing(identity: str) -> JSONResponse:
    return JSONResponse({"error": f"no user {identity}"}, 404)
