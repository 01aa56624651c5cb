"""A gRPC server that logs each call as one JSON line. Messages are bytes; no schema is needed.

grpc_server.py ADDRESS LOG [--fail]

LOG gets a line when a call is over (`cut` if the client went away in it), LOG.messages one for each message that came.
"""

import hashlib
import json
import sys
import threading
from concurrent import futures

import grpc

ADDRESS, LOG = sys.argv[1], sys.argv[2]
FAIL = "--fail" in sys.argv[3:]
LOCK = threading.Lock()


def write(path, line):
    with LOCK, open(path, "a") as file:
        file.write(json.dumps(line) + "\n")


class Call:
    """What is known of one call."""

    def __init__(self, details, context):
        self.context = context
        self.id = dict(context.invocation_metadata()).get("x-request-id", "")
        self.target = details.method
        self.digest, self.count, self.messages = hashlib.sha256(), 0, 0
        self.whole = False
        context.add_callback(self.log)

    def message(self, data):
        self.messages += 1
        self.count += len(data)
        self.digest.update(b"%d:" % len(data) + data)
        write(LOG + ".messages", {"id": self.id, "n": self.messages})

    def all(self, messages):
        for data in messages:
            self.message(data)
            yield data

    def over(self):
        """The client has said everything, or so it seems."""
        self.whole = True
        if FAIL:
            self.context.abort(grpc.StatusCode.UNAVAILABLE, "told to fail")

    def log(self):
        """At the end of the call. The messages of one that the client takes back may just end; only the library knows."""
        cut = not self.whole or self.context._state.client == "cancelled"
        write(
            LOG,
            {
                "id": self.id,
                "method": "POST",
                "target": self.target,
                "status": 200,
                "peer": self.context.peer(),
                "body_hash": self.digest.hexdigest(),
                "body_bytes": self.count,
                "bytes": 0,
                "concurrent": self.messages,
                "cut": cut,
            },
        )


def unary(details):
    def run(data, context):
        call = Call(details, context)
        call.message(data)
        call.over()
        return data

    return grpc.unary_unary_rpc_method_handler(run)


def server_stream(details):
    def run(data, context):
        call = Call(details, context)
        call.message(data)
        call.over()
        for n in range(int(data)):
            yield b"%d" % n

    return grpc.unary_stream_rpc_method_handler(run)


def client_stream(details):
    def run(messages, context):
        call = Call(details, context)
        for _ in call.all(messages):
            pass
        call.over()
        return b"%d" % call.messages

    return grpc.stream_unary_rpc_method_handler(run)


def bidi(details):
    def run(messages, context):
        call = Call(details, context)
        yield from call.all(messages)
        call.over()

    return grpc.stream_stream_rpc_method_handler(run)


KINDS = {
    "/lab.Lab/Unary": unary,
    "/lab.Lab/Server": server_stream,
    "/lab.Lab/Client": client_stream,
    "/lab.Lab/Bidi": bidi,
}


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        kind = KINDS.get(details.method)
        return kind(details) if kind else None


server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
server.add_generic_rpc_handlers((Handler(),))
assert server.add_insecure_port(ADDRESS)
server.start()
print("listening", flush=True)
server.wait_for_termination()
