"""Plain HTTP to Keystone and magnumd, for what no stock client would ever send."""
import http.client
import json
import os
import urllib.parse

import yaml


class Cloud:
    """The accounts of clouds.yaml, a token for each, and where the catalogue says magnumd is."""

    def __init__(self):
        with open(os.environ["OS_CLIENT_CONFIG_FILE"]) as file:
            self.clouds = yaml.safe_load(file)["clouds"]
        self.keystone = self.clouds["demo"]["auth"]["auth_url"].rstrip("/")
        self.tokens, self.users, self.projects, self.catalogs = {}, {}, {}, {}
        self.token("demo")
        self.services = self.catalogs["demo"]
        self.magnum = self.endpoint("container-infra", "demo").removesuffix("/v1")

    def authenticate(self, identity, scope):
        body = {"auth": {"identity": identity, **({"scope": scope} if scope else {})}}
        status, headers, text = self.ask("POST", f"{self.keystone}/auth/tokens", None,
                                         json.dumps(body))
        if status != 201:
            raise SystemExit(f"Keystone gave no token: {status} {text}")
        return headers["X-Subject-Token"], json.loads(text)["token"]

    def login(self, cloud):
        """A new token of an account in its project."""
        auth = self.clouds[cloud]["auth"]
        token, view = self.authenticate(
            {"methods": ["password"], "password": {"user": {
                "name": auth["username"], "password": auth["password"],
                "domain": {"name": auth["user_domain_name"]}}}},
            {"project": {"name": auth["project_name"],
                         "domain": {"name": auth["project_domain_name"]}}})
        self.users[cloud], self.projects[cloud] = view["user"]["id"], view["project"]["id"]
        self.catalogs[cloud] = {s["type"]: s["endpoints"] for s in view["catalog"]}
        return token

    def token(self, cloud):
        if cloud not in self.tokens:
            self.tokens[cloud] = self.login(cloud)
        return self.tokens[cloud]

    def project(self, cloud):
        self.token(cloud)
        return self.projects[cloud]

    def endpoint(self, kind, cloud):
        """Where an account finds a service."""
        self.token(cloud)
        region = self.clouds[cloud]["region_name"]
        return next(e["url"] for e in self.catalogs[cloud][kind]
                    if e["interface"] == "public" and e["region"] == region).rstrip("/")

    def trusted(self, trustor, trustee):
        """A token with which one account acts for another, and how to take the trust back."""
        token, url = self.token(trustor), f"{self.keystone}/OS-TRUST/trusts"
        self.token(trustee)
        body = {"trust": {
            "trustor_user_id": self.users[trustor], "trustee_user_id": self.users[trustee],
            "project_id": self.projects[trustor], "impersonation": True,
            "roles": [{"name": "member"}]}}
        status, _, text = self.ask("POST", url, token, json.dumps(body))
        if status != 201:
            raise SystemExit(f"Keystone gave no trust: {status} {text}")
        trust = json.loads(text)["trust"]["id"]
        auth = self.clouds[trustee]["auth"]
        borrowed, _ = self.authenticate(
            {"methods": ["password"], "password": {"user": {
                "id": self.users[trustee], "password": auth["password"]}}},
            {"OS-TRUST:trust": {"id": trust}})
        return borrowed, lambda: self.ask("DELETE", f"{url}/{trust}", token)

    def with_application_credential(self):
        """A demo token got with a restricted application credential, and how to remove that."""
        token = self.token("demo")
        url = f"{self.keystone}/users/{self.users['demo']}/application_credentials"
        body = {"application_credential": {"name": f"refusals-{os.getpid()}"}}
        status, _, text = self.ask("POST", url, token, json.dumps(body))
        if status != 201:
            raise SystemExit(f"Keystone gave no application credential: {status} {text}")
        made = json.loads(text)["application_credential"]
        restricted, _ = self.authenticate(
            {"methods": ["application_credential"],
             "application_credential": {"id": made["id"], "secret": made["secret"]}}, None)
        return restricted, lambda: self.ask("DELETE", f"{url}/{made['id']}", token)

    def revoked(self):
        """A token that Keystone has issued and no longer knows."""
        token = self.login("demo")
        url = f"{self.keystone}/auth/tokens"
        status, _, text = self.ask("DELETE", url, token, headers={"X-Subject-Token": token})
        if status != 204:
            raise SystemExit(f"Keystone did not revoke a token: {status} {text}")
        return token

    @staticmethod
    def ask(method, url, token=None, body=None, headers=None):
        """One request, as it stands: (status, headers, text)."""
        parts = urllib.parse.urlsplit(url)
        sent = {"Content-Type": "application/json"} if body is not None else {}
        sent.update({"X-Auth-Token": token} if token else {})
        sent.update(headers or {})
        link = http.client.HTTPConnection(parts.hostname, parts.port, timeout=90)
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            try:
                link.request(method, target, body, sent)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before all of the body was sent; the answer is there
            answer = link.getresponse()
            return answer.status, answer.headers, answer.read().decode(errors="replace")
        finally:
            link.close()
