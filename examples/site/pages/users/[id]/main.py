"""Functions named by HTTP methods; [id] in the directory's name is a path parameter."""

from tqserver.page import Request

USERS: dict[str, dict[str, object]] = {"7": {"name": "Ada"}}


def get(request: Request) -> dict[str, object]:
    user = request.path_params["id"]
    return {"id": user, **USERS.get(user, {})}


async def put(request: Request) -> dict[str, object]:
    user = request.path_params["id"]
    USERS[user] = await request.json()
    return {"id": user, **USERS[user]}


def delete(request: Request) -> None:
    USERS.pop(request.path_params["id"], None)
