"""A FastAPI app. Its routes start at /, the page's own path (/api) is its root_path."""

from itertools import count

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

app = FastAPI(title="Example API", description="A page of the TQServer example site.")


class Task(BaseModel):
    title: str = Field(min_length=1, max_length=200, examples=["Water the plants"])
    done: bool = False


# In memory: a reload starts anew. What must outlive a process belongs into a database.
tasks: dict[int, Task] = {1: Task(title="Save this file"), 2: Task(title="Reload the browser")}
numbers = count(3)


@app.get("/", include_in_schema=False)
def start() -> dict[str, str]:
    return {"tasks": "/api/tasks", "documentation": "/api/docs"}


@app.get("/tasks")
def list_tasks() -> dict[int, Task]:
    return tasks


@app.post("/tasks", status_code=201)
def add_task(task: Task) -> dict[str, int]:
    number = next(numbers)
    tasks[number] = task
    return {"number": number}


@app.get("/tasks/{number}")
def show_task(number: int) -> Task:
    if number not in tasks:
        raise HTTPException(404, f"no task {number}")
    return tasks[number]


@app.delete("/tasks/{number}", status_code=204)
def remove_task(number: int) -> None:
    if tasks.pop(number, None) is None:
        raise HTTPException(404, f"no task {number}")
