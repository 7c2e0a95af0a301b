"""The store holds what is referred to, and no more (pitfall 28)."""

from __future__ import annotations

from pathlib import Path

from tests.system import sources
from tests.system.harness import Server, wait_until


def artifacts(server: Server) -> set[str]:
    return {path.name for path in (server.root / ".tqserver/store").glob("??/*")}


def test_the_last_ten_revisions_stay(server: Server) -> None:
    server.page("edited", sources.plain("v0"))
    server.page("other", sources.plain("other"))
    server.start()
    server.wait_body("/edited", "v0")
    server.wait_body("/other", "other")
    for version in range(1, 14):
        server.edit("pages/edited/main.py", sources.plain(f"v{version}"))
        server.wait_body("/edited", f"v{version}")
    live = [line["digest"] for line in server.events("revision.live")]
    kept = {*[line["digest"] for line in server.events("revision.live", page="edited")][-10:]}
    kept |= {line["digest"] for line in server.events("revision.live", page="other")}
    assert len(live) == 15 and len(kept) == 11
    wait_until(lambda: artifacts(server) == kept, lambda: f"{artifacts(server)} to be {kept}")
    server.edit("pages/edited/main.py", sources.plain("v8"))
    server.wait_body("/edited", "v8")
    assert server.events("build.done", page="edited")[-1]["reused"]


def test_a_start_removes_what_nothing_refers_to(server: Server) -> None:
    server.page("kept", sources.plain("kept"))
    server.page("deleted", sources.plain("deleted"))
    server.start()
    server.wait_body("/kept", "kept")
    server.wait_body("/deleted", "deleted")
    kept = {line["digest"] for line in server.events("revision.live", page="kept")}
    server.stop()
    (server.root / "pages/deleted/main.py").unlink()
    (server.root / "pages/deleted").rmdir()
    store = server.root / ".tqserver/store"
    for name in ("ab/" + "ab" * 16, "scratch-left"):
        Path(store, name).mkdir(parents=True)
    since = server.mark()
    server.launch()
    server.wait_log("server.ready", since)
    server.wait_body("/kept", "kept")
    wait_until(lambda: artifacts(server) == kept, lambda: f"{artifacts(server)} to be {kept}")
    assert not (store / "scratch-left").exists()
    assert server.events("build.done", since, page="kept")[-1]["reused"]
