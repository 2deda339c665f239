"""Where the cloud keeps what is its own, and how its accounts log in."""
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
STATE = Path(os.environ.get("MAGNUMD_CLOUD_STATE") or Path(
    os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state", "magnumd-cloud"))
ETC, LOG, RUN = (STATE / name for name in ("etc", "log", "run"))
# The services themselves; every state uses the same ones.
VENV = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "magnumd-cloud/venv")

KEYSTONE = "http://127.0.0.1:5000/v3"
REGION = "RegionOne"
PASSWORD = "secret"  # of every account: the cloud listens on 127.0.0.1 only

# Users of the domain Default and the project each one works in.
PROJECTS = {"admin": "admin", "demo": "demo", "demo2": "demo", "reader": "demo", "alt": "alt",
            "magnum": "service"}
# What holds the users that Heat and magnumd make, and the one account in each that stays.
USER_DOMAINS = {"heat": "heat_domain_admin", "magnum": "magnum_domain_admin"}


def in_venv():
    """Continue in the cloud's virtual environment, which has openstacksdk and PyYAML."""
    if Path(sys.prefix) != VENV:
        python = VENV / "bin/python"
        if not python.exists():
            sys.exit(f"{python} does not exist; run {HERE / 'cloud'} up")
        os.execv(python, [str(python), *sys.argv])


def connect(user):
    """An openstacksdk connection of a user, in that user's own project."""
    import openstack
    return openstack.connect(
        auth_url=KEYSTONE, username=user, password=PASSWORD, project_name=PROJECTS[user],
        user_domain_name="Default", project_domain_name="Default", region_name=REGION,
        identity_api_version="3", load_yaml_config=False, load_envvars=False)
