"""A Hexa device in plain Python: the whole protocol that a relay needs, by example.

    python device.py --server http://127.0.0.1:8080 --provision-key KEY --state-file device.json --relays 4

Standard library and `websockets` only. Prints one JSON line for everything that happens.
"""

import argparse
import asyncio
import collections
import json
import os
import random
import time
import urllib.request

import websockets


def say(event, **facts):
    print(json.dumps({"event": event, **facts}), flush=True)


def provision(server, key, relays):
    """First contact: the fleet key for a uid and a token of our own, and a code with which a person claims us."""
    body = json.dumps({"device_class": "relay_controller", "model": "python-example", "relay_count": relays}).encode()
    headers = {"content-type": "application/json", "x-provision-key": key}
    request = urllib.request.Request(server + "/api/v1/provision/register", body, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        made = json.load(answer)
    say("provisioned", uid=made["device_uid"], claim_code=made["claim_code"])
    return {"uid": made["device_uid"], "token": made["device_token"]}


def identity(path, server, key, relays):
    """Uid and token survive a reboot: in flash on a real device, in a file that only we can read here."""
    if os.path.exists(path):
        with open(path) as file:
            return json.load(file)
    me = provision(server, key, relays)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(me, file)
    return me


class Device:
    """The relays, and the memory that makes a repeated command harmless."""

    def __init__(self, relays):
        self.relays = [False] * relays  # power-on state: everything off
        self.answered = collections.OrderedDict()  # the last 16 command ids and what we answered

    def report(self):
        relays = [{"index": i, "state": on} for i, on in enumerate(self.relays)]
        return {"type": "state_report", "relays": relays, "complete": True}

    def obey(self, message):
        """Gives the answer to a command, or None for what is not one."""
        kind, command_id = message.get("type"), message.get("command_id")
        if kind not in ("set_relay", "set_all_relays"):
            return None
        if command_id in self.answered:  # sent twice: answered twice, switched once
            return self.answered[command_id]
        ack = {"type": "ack", "command_id": command_id, **self.switch(kind, message)}
        self.answered[command_id] = ack
        if len(self.answered) > 16:
            self.answered.popitem(last=False)
        return ack

    def switch(self, kind, message):
        if message.get("expires_at_ms", 0) < time.time() * 1000:  # too late is never executed
            return {"status": "rejected", "reason": "expired"}
        wanted = [message["relay"]] if kind == "set_relay" else range(len(self.relays))
        if any(not 0 <= index < len(self.relays) for index in wanted):
            return {"status": "rejected", "reason": "bad_index"}
        changed = [index for index in wanted if self.relays[index] != message["state"]]
        for index in changed:
            self.relays[index] = message["state"]  # here a real device moves the contact
        states = [{"index": index, "state": self.relays[index]} for index in wanted]
        return {"status": "executed" if changed else "noop", "relays": states}


async def serve(server, me, device):
    """One connection: say what is, then obey until it ends."""
    url = server.replace("http", "ws", 1) + f"/ws/device?uid={me['uid']}&token={me['token']}"
    async with websockets.connect(url, max_size=65536) as socket:
        say("connected", uid=me["uid"])
        await socket.send(json.dumps(device.report()))
        async for text in socket:
            message = json.loads(text)
            answer = device.obey(message)
            if answer is None:
                say("ignored", type=message.get("type"))
                continue
            await socket.send(json.dumps(answer))
            say("command", command_id=answer["command_id"], status=answer["status"], relays=device.relays)


async def run(args):
    device, failures = Device(args.relays), 0
    me = identity(args.state_file, args.server, args.provision_key, args.relays)
    while True:
        try:
            await serve(args.server, me, device)
            failures = 0
        except websockets.ConnectionClosed as closed:
            failures = 0
            say("disconnected", code=closed.rcvd.code if closed.rcvd else None)
        except (OSError, websockets.WebSocketException) as error:
            failures += 1
            say("unreachable", error=str(error))
        # Full jitter: a fleet that lost its server must not come back in the same instant.
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
