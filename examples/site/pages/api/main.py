"""A FastAPI app below /api: its own routes begin at /."""

from fastapi import FastAPI

app = FastAPI(title="Example API")


@app.get("/hello")
def hello(name: str = "world") -> dict[str, str]:
    return {"message": f"hello {name}"}


@app.post("/echo")
def echo(body: dict[str, object]) -> dict[str, object]:
    return body
