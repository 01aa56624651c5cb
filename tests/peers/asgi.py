"""An ASGI application that logs each request, and each WebSocket at its end, as one JSON line, for hypercorn. LOG names the
file."""

import hashlib
import json
import os
import threading

LOG = open(os.environ["LOG"], "a", buffering=1)
LOCK = threading.Lock()
# Bytes of the answer to /large.
LARGE = 3_000_000


def log(**line):
    with LOCK:
        LOG.write(json.dumps(line) + "\n")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await send({"type": "lifespan.shutdown.complete"})
                return
    if scope["type"] == "websocket":
        return await socket(scope, receive, send)
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    first = dict(reversed(fields))
    digest, count, cut = hashlib.sha256(), 0, False
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            cut = True
            break
        body = message.get("body", b"")
        digest.update(body)
        count += len(body)
        if not message.get("more_body", False):
            break
    target = scope["raw_path"].decode("latin-1")
    if scope["query_string"]:
        target += "?" + scope["query_string"].decode("latin-1")
    line = {
        "id": first.get("x-request-id", ""),
        "method": scope["method"],
        "target": target,
        "host": first.get("host", ""),
        "status": 200,
        "conn": scope["client"][1],
        "peer": "%s:%d" % tuple(scope["client"]),
        "body_hash": digest.hexdigest(),
        "body_bytes": count,
        "head": "HTTP/%s\n" % scope["http_version"] + "".join("%s: %s\n" % field for field in fields),
        "cut": cut,
    }
    # Before the answer leaves, so whoever has the answer finds the line.
    log(**line)
    if not cut:
        body = b"x" * (LARGE if scope["path"] == "/large" else 5)
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def socket(scope, receive, send):
    """Says back what it is told. The line holds what was told, in order."""
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    first = dict(reversed(fields))
    digest, count, messages, code = hashlib.sha256(), 0, 0, 0
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            code = message["code"]
            break
        text, data = message.get("text"), message.get("bytes")
        told = b"t" + text.encode() if text is not None else b"b" + data
        digest.update(b"%d:" % len(told) + told)
        count, messages = count + len(told) - 1, messages + 1
        if text == "close " + scope["server"][0]:
            await send({"type": "websocket.close", "code": 4001})
            # What hypercorn tells of every end.
            code = 1006
            break
        await send({"type": "websocket.send", "text": text} if text is not None else {"type": "websocket.send", "bytes": data})
    log(
        id=first.get("x-request-id", ""),
        method="GET",
        target=scope["path"],
        host=first.get("host", ""),
        status=code,
        conn=scope["client"][1],
        peer="%s:%d" % tuple(scope["client"]),
        body_hash=digest.hexdigest(),
        body_bytes=count,
        concurrent=messages,
    )
