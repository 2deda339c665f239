"""What runs in the cloud: each process, its port, and how its database gets its tables."""
import os

from where import ETC, LOG, PASSWORD, RUN, STATE, VENV

APT = ["rabbitmq-server", "mariadb-server-core", "mariadb-client-core", "memcached", "openssl"]
AMQP = "rabbit://guest:guest@127.0.0.1:5672/"
DB = f"mysql+pymysql://openstack:{PASSWORD}@127.0.0.1:3306"
ROOT = os.geteuid() == 0

ENV = {
    "HOME": str(ETC), "PATH": f"{VENV}/bin:{os.environ['PATH']}", "LC_ALL": "C.UTF-8",
    "OS_KEYSTONE_CONFIG_DIR": str(ETC), "OS_GLANCE_CONFIG_DIR": str(ETC),
    "OS_PLACEMENT_CONFIG_DIR": str(ETC), "OS_NOVA_CONFIG_DIR": str(ETC),
    "OS_NOVA_CONFIG_FILES": f"{VENV}/etc/nova/api-paste.ini;nova.conf",
    "OS_NEUTRON_CONFIG_DIR": str(ETC), "OS_NEUTRON_CONFIG_FILES": "neutron.conf",
}
ERLANG = {  # own ports and files, so that a RabbitMQ of the machine is not disturbed
    "HOME": str(STATE / "rabbit"), "ERL_EPMD_PORT": "4379", "ERL_EPMD_ADDRESS": "127.0.0.1",
    "RABBITMQ_NODENAME": "cloud@localhost", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
    "RABBITMQ_NODE_PORT": "5672", "RABBITMQ_DIST_PORT": "25679",
    "RABBITMQ_MNESIA_BASE": str(STATE / "rabbit"), "RABBITMQ_LOG_BASE": str(LOG),
    "RABBITMQ_CONFIG_FILE": str(STATE / "rabbit/rabbitmq"),
    "RABBITMQ_ENABLED_PLUGINS_FILE": str(STATE / "rabbit/plugins"),
    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
        "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
}


def wsgi(port, module, *extra, threads=4):
    # Connection: close, because uwsgi's plain HTTP socket has no keep-alive.
    application = extra or ("--module", f"{module}:application")
    return port, [VENV / "bin/uwsgi", "--http-socket", f"127.0.0.1:{port}", "--home", VENV,
                  *application, "--need-app", "--enable-threads", "--threads", str(threads),
                  "--die-on-term", "--buffer-size", "65535", "--add-header", "Connection: close",
                  "--procname-prefix", f"{module.split('.')[0]}-"]


def daemon(name, *extra):
    return None, [VENV / "bin" / name, *extra]


CELL = ("--config-file", ETC / "nova.conf", "--config-file", ETC / "nova-cell1.conf")

# name: (port, argv). Backends come up first, then everything else at once.
BACKENDS = {
    "mariadb": (3306, ["mariadbd", "--no-defaults", f"--datadir={STATE}/mariadb",
                       f"--socket={RUN}/mariadb.sock", "--bind-address=127.0.0.1",
                       "--port=3306", "--skip-name-resolve", "--max-connections=500",
                       "--innodb-buffer-pool-size=128M", "--innodb-flush-log-at-trx-commit=0",
                       "--innodb-flush-method=nosync", "--performance-schema=OFF",
                       *(["--user=root"] if ROOT else [])]),
    "memcached": (11211, ["memcached", "-l", "127.0.0.1", "-p", "11211", "-m", "32", "-U", "0",
                          *(["-u", "root"] if ROOT else [])]),
    "epmd": (4379, ["epmd", "-port", "4379", "-address", "127.0.0.1"]),
    # Not Debian's wrapper, which changes the user.
    "rabbitmq": (5672, ["/usr/lib/rabbitmq/bin/rabbitmq-server"]),
}
SERVICES = {
    # With more threads Keystone sometimes judges one request by the scope of another that it works
    # on at the same time, and refuses it: seen with Heat's deletion of a trust, which then stays.
    "keystone": wsgi(5000, "keystone.wsgi.api", threads=1),
    "placement": wsgi(8778, "placement.wsgi.api"),
    "glance": wsgi(9292, "glance.wsgi.api"),
    "neutron": wsgi(9696, "neutron.wsgi.api"),
    "nova-api": wsgi(8774, "nova.wsgi.osapi_compute"),
    "nova-conductor": daemon("nova-conductor", *CELL),
    "nova-scheduler": daemon("nova-scheduler"),
    "nova-compute": daemon("nova-compute", *CELL),
    "heat-api": wsgi(8004, "heat.wsgi.api"),
    "heat-engine": daemon("heat-engine"),
}
EXTRAS = {
    "cfn": {"heat-api-cfn": wsgi(8000, "heat.wsgi.cfn")},
    "barbican": {"barbican": wsgi(9311, "barbican", "--paste",
                                  f"config:{VENV}/etc/barbican/barbican-api-paste.ini")},
    "cinder": {"cinder-api": wsgi(8776, "cinder.wsgi.api"),
               "cinder-scheduler": daemon("cinder-scheduler"),
               "cinder-volume": daemon("cinder-volume")},
    "octavia": {"octavia-api": wsgi(9876, "octavia.wsgi.api"),
                "octavia-worker": daemon("octavia-worker")},
}
# A process listens when somebody consumes its queue.
QUEUES = {"nova-conductor": "conductor", "nova-scheduler": "scheduler", "nova-compute": "compute",
          "heat-engine": "engine", "cinder-scheduler": "cinder-scheduler",
          "cinder-volume": "cinder-volume.cloud@fake", "octavia-worker": "octavia_provisioning_v2"}

DATABASES = ["keystone", "placement", "nova_api", "nova_cell0", "nova_cell1", "neutron", "heat",
             "glance", "barbican", "cinder", "octavia"]
TABLES = {
    "keystone": [["keystone-manage", "db_sync"]],
    "placement": [["placement-manage", "db", "sync"]],
    "nova": [["nova-manage", "api_db", "sync"],
             ["nova-manage", "cell_v2", "map_cell0", "--database_connection", f"{DB}/nova_cell0"],
             ["nova-manage", "db", "sync", "--local_cell"],
             ["nova-manage", *CELL, "db", "sync", "--local_cell"],
             ["sh", "-c", "nova-manage cell_v2 list_cells | grep -q ' cell1 ' || nova-manage "
              f"cell_v2 create_cell --name cell1 --database_connection {DB}/nova_cell1 "
              f"--transport-url {AMQP}"]],
    "neutron": [["neutron-db-manage", "--config-file", ETC / "neutron.conf", "upgrade", "heads"]],
    "heat": [["heat-manage", "db_sync"]],
    "glance": [["glance-manage", "--config-file", ETC / "glance-api.conf", "db_sync"]],
    "barbican": [["barbican-manage", "db", "upgrade"]],
    "cinder": [["cinder-manage", "db", "sync"]],
    "octavia": [["octavia-db-manage", "--config-file", ETC / "octavia.conf", "upgrade", "head"]],
}
