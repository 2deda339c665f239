"""A member's side of etcd's v2 discovery, request by request as etcd 3.4 to 3.6 speak it."""
import hashlib
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request

QUICK = 5  # seconds; etcd gives up after these, and so do we


def ask(url, method="GET", body=None, timeout=QUICK):
    """The answer's etcd index and its JSON body (None: an empty one, which is no event)."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, body, method=method), timeout=timeout) as answer:
        text = answer.read()
        return int(answer.headers["X-Etcd-Index"]), json.loads(text) if text else None


def member_id(url, peer_url):
    """What etcd computes: the discovery URL is the cluster's token."""
    return f"{int.from_bytes(hashlib.sha1((peer_url + url).encode()).digest()[:8]):x}"


def members(url):
    """The registered members, first come first, and the index of that moment."""
    index, answer = ask(f"{url}?quorum=false&recursive=false&sorted=false")
    nodes = [n for n in answer["node"].get("nodes", []) if not n["key"].endswith("_config")]
    return sorted(nodes, key=lambda n: n["createdIndex"]), index


def size(url):
    _, answer = ask(f"{url}/_config/size?quorum=false&recursive=false&sorted=false")
    return int(answer["node"]["value"])


def attempt(url, name, peer_url):
    own = member_id(url, peer_url)
    wanted = size(url)
    known, _ = members(url)
    full = len(known) >= wanted
    if full and not any(n["key"].endswith(f"/{own}") for n in known[:wanted]):
        raise ValueError(f"the discovery token is full: {wanted} members, and we are none of them")
    form = urllib.parse.urlencode({"value": f"{name}={peer_url}"}).encode()
    _, made = ask(f"{url}/{own}?prevExist=false", "PUT", form)
    created = made["node"]["createdIndex"]
    ask(f"{url}/{own}?recursive=false&wait=true&waitIndex={created}", timeout=90)
    wanted = size(url)
    known, index = members(url)
    while len(known) < wanted:
        _, event = ask(f"{url}?recursive=true&wait=true&waitIndex={index + 1}", timeout=90)
        if event:
            known.append(event["node"])
            index = event["node"]["modifiedIndex"]
    peers = [n["value"] for n in known[:wanted]]
    if len(set(peers)) != wanted or f"{name}={peer_url}" not in peers:
        raise ValueError(f"discovery named {peers}; that is not {wanted} members with {name}")
    return ",".join(peers)


def discover(url, name, peer_url, pause):
    """The --initial-cluster string; begins again after a failure, as systemd restarts etcd."""
    while True:
        try:
            return attempt(url, name, peer_url)
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise
        except (OSError, http.client.HTTPException):
            pass  # magnumd is away
        pause(2)
