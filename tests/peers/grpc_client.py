"""Calls of each kind over one channel, one after the other or side by side.

grpc_client.py ADDRESS MODE [COUNT] [GATE]

MODE: unary, server, client, bidi: COUNT calls of that kind, four at a time; all: COUNT of each; hold: a bidirectional call of
three messages that ends when the file GATE is there; later: a unary call at once, and when GATE is there COUNT more over the same connection; cancel: COUNT calls that are taken back after three messages.
Prints `done OK FAILED`.
"""

import os
import sys
import time
from concurrent import futures

import grpc

ADDRESS, MODE = sys.argv[1], sys.argv[2]
COUNT = int(sys.argv[3]) if len(sys.argv) > 3 else 1
GATE = sys.argv[4] if len(sys.argv) > 4 else ""
PATIENCE = 60

channel = grpc.insecure_channel(ADDRESS)
grpc.channel_ready_future(channel).result(timeout=PATIENCE)


def named(name):
    return {"metadata": (("x-request-id", name), ("x-bin-bin", b"\x00\xff")), "timeout": PATIENCE}


def body(n):
    # From nothing to more than any window.
    return bytes([n % 251]) * (n * n * 37 % 200_000)


def unary(n):
    return channel.unary_unary("/lab.Lab/Unary")(body(n), **named("unary-%d" % n)) == body(n)


def server(n):
    answers = list(channel.unary_stream("/lab.Lab/Server")(b"%d" % n, **named("server-%d" % n)))
    return len(answers) == n


def client(n):
    messages = (body(i) for i in range(n))
    return channel.stream_unary("/lab.Lab/Client")(messages, **named("client-%d" % n)) == b"%d" % n


class Turns:
    """Messages of which each is sent when the answer to the one before has come."""

    def __init__(self, messages):
        self.messages = list(messages)
        self.heard = 0

    def __iter__(self):
        for at, message in enumerate(self.messages):
            end = time.monotonic() + PATIENCE
            while self.heard < at and time.monotonic() < end:
                time.sleep(0.001)
            yield message


def bidi(n):
    turns = Turns(body(i) for i in range(n))
    same = True
    for answer in channel.stream_stream("/lab.Lab/Bidi")(iter(turns), **named("bidi-%d" % n)):
        same = same and answer == turns.messages[turns.heard]
        turns.heard += 1
    return same and turns.heard == n


def hold(n):
    def messages():
        for i in range(3):
            yield b"message %d" % i
        gate()

    answers = list(channel.stream_stream("/lab.Lab/Bidi")(messages(), **named("hold-%d" % n)))
    return len(answers) == 3


def gate():
    end = time.monotonic() + PATIENCE
    while not os.path.exists(GATE) and time.monotonic() < end:
        time.sleep(0.01)


def cancel(n):
    def messages():
        for i in range(3):
            yield b"message %d" % i
        time.sleep(PATIENCE)

    call = channel.stream_stream("/lab.Lab/Bidi")(messages(), **named("cancel-%d" % n))
    for _ in range(3):
        next(call)
    call.cancel()
    return True


def guarded(kind, n):
    try:
        return kind(n)
    except grpc.RpcError as error:
        print("call %d: %s" % (n, error.code()), file=sys.stderr)
        return False


KINDS = {"unary": [unary], "server": [server], "client": [client], "bidi": [bidi], "hold": [hold], "cancel": [cancel]}
KINDS["all"] = [unary, server, client, bidi]
KINDS["later"] = [unary]
if MODE == "later":
    assert unary(0)
    gate()
work = [(kind, n) for n in range(COUNT) for kind in KINDS[MODE]]
with futures.ThreadPoolExecutor(max_workers=4) as pool:
    results = list(pool.map(lambda one: guarded(*one), work))
channel.close()
print("done", sum(results), len(results) - sum(results), flush=True)
# Threads of calls that were taken back may still sleep.
os._exit(0)
