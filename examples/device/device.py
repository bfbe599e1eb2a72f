"""A Hexa device in plain Python: the whole protocol that a relay needs, by example.

    python device.py --server http://127.0.0.1:8080 --provision-key KEY --state-file device.json --relays 4

Standard library and `websockets` (13 or newer) only. Prints one JSON line for everything that happens.
"""

import argparse
import asyncio
import collections
import json
import os
import random
import time
import urllib.error
import urllib.request
import uuid

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException


BOOT_ID = uuid.uuid4().hex[:16]  # tells two copies of one device apart


def say(event, **facts):
    print(json.dumps({"event": event, **facts}), flush=True)


def provision(server, key, relays, once):
    """First contact: the fleet key for a uid and a token of our own, and a code with which a person claims us.

    `once` is the same until the answer is stored: should it be lost on its way, the server tells it again.
    """
    body = json.dumps({"device_class": "relay_controller", "model": "python-example", "relay_count": relays}).encode()
    headers = {"content-type": "application/json", "x-provision-key": key, "idempotency-key": once}
    request = urllib.request.Request(server + "/api/v1/provision/register", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            made = json.load(answer)
    except urllib.error.HTTPError as refused:  # the server says in plain words what was wrong
        raise SystemExit(f"not provisioned: {refused.code} {refused.read().decode(errors='replace')}") from None
    except OSError as error:
        raise SystemExit(f"not provisioned: no answer from {server}: {error}") from None
    say("provisioned", uid=made["device_uid"], claim_code=made["claim_code"])
    return {"uid": made["device_uid"], "token": made["device_token"]}


def keep(path, value):
    """In flash on a real device, in a file that only we can read here."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(value, file)


def identity(path, server, key, relays):
    """Uid and token survive a reboot, and so does the key of a request whose answer we do not have yet."""
    if os.path.exists(path):
        with open(path) as file:
            return json.load(file)
    attempt = path + ".attempt"
    if not os.path.exists(attempt):
        keep(attempt, uuid.uuid4().hex)
    with open(attempt) as file:
        me = provision(server, key, relays, json.load(file))
    keep(path, me)
    os.remove(attempt)
    return me


class Device:
    """The relays, and the memory that makes a repeated command harmless."""

    def __init__(self, relays):
        self.relays = [False] * relays  # power-on state: everything off
        self.answered = collections.OrderedDict()  # the last 16 command ids and what we answered

    def report(self):
        relays = [{"index": i, "state": on} for i, on in enumerate(self.relays)]
        return {"type": "state_report", "relays": relays, "complete": True, "boot_id": BOOT_ID}

    def obey(self, message):
        """Gives the answer to a command, or None for what is not one."""
        command_id = message.get("command_id")
        if command_id is None:
            return None
        if command_id in self.answered:  # sent twice: answered twice, switched once
            return self.answered[command_id]
        ack = {"type": "ack", "command_id": command_id, **self.switch(message)}
        self.answered[command_id] = ack
        if len(self.answered) > 16:
            self.answered.popitem(last=False)
        return ack

    def switch(self, message):
        # What we cannot do we refuse: a pulse (for_ms) taken for a plain "on" would leave a valve open.
        if message["type"] not in ("set_relay", "set_all_relays") or "for_ms" in message:
            return {"status": "rejected", "reason": "unsupported"}
        if message.get("expires_at_ms", float("inf")) < time.time() * 1000:  # too late is never executed
            return {"status": "rejected", "reason": "expired"}
        wanted = [message["relay"]] if message["type"] == "set_relay" else range(len(self.relays))
        if any(not 0 <= index < len(self.relays) for index in wanted):
            return {"status": "rejected", "reason": "bad_index"}
        changed = [index for index in wanted if self.relays[index] != message["state"]]
        for index in changed:
            self.relays[index] = message["state"]  # here a real device moves the contact
        states = [{"index": index, "state": self.relays[index]} for index in wanted]
        return {"status": "executed" if changed else "noop", "relays": states}


async def serve(server, me, device):
    """One connection: say what is, then obey until it ends."""
    url = server.replace("http", "ws", 1) + f"/ws/device?uid={me['uid']}"
    secret = {"Authorization": f"Bearer {me['token']}"}  # not in the address: proxies write that into their logs
    async with connect(url, max_size=65536, additional_headers=secret) as socket:
        say("connected", uid=me["uid"])
        await socket.send(json.dumps(device.report()))
        while True:
            message = json.loads(await socket.recv())
            answer = device.obey(message)
            if answer is None:
                say("ignored", message=message)
                continue
            await socket.send(json.dumps(answer))
            say("command", command_id=answer["command_id"], status=answer["status"], relays=device.relays)


async def run(args):
    server = args.server.rstrip("/")
    me = identity(args.state_file, server, args.provision_key, args.relays)
    device, failures = Device(args.relays), 0
    while True:
        started = time.monotonic()
        try:
            await serve(server, me, device)
        except ConnectionClosed as closed:
            say("disconnected", code=closed.rcvd.code if closed.rcvd else None)
        except (OSError, WebSocketException) as error:
            say("unreachable", error=str(error))
        # A connection that is cut at once is a failure too. Full jitter: a fleet that lost its server must not come
        # back in the same instant.
        failures = 0 if time.monotonic() - started > 60 else failures + 1
        await asyncio.sleep(random.uniform(0, min(60, 2**failures)))


def main():
    parser = argparse.ArgumentParser(description="A Hexa device with relays.")
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    parser.add_argument("--provision-key", default=os.environ.get("DEVICE_PROVISION_KEY"))
    parser.add_argument("--state-file", default="device.json")
    parser.add_argument("--relays", type=int, default=4)
    args = parser.parse_args()
    if not args.provision_key and not os.path.exists(args.state_file):
        parser.error("the first start needs --provision-key (or DEVICE_PROVISION_KEY)")
    try:
        asyncio.run(run(args))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
