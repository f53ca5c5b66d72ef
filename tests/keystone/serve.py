"""A Keystone on SQLite, in one process: serve.py FOLDER [PORT] [TOKEN_SECONDS] [ADDRESS]

Makes the database, the keys and an administrator (admin / secret, of the project admin and of the system) in FOLDER
when they are not there, prints "ready http://ADDRESS:PORT" and serves until it is killed. PORT 0 takes a free one.
"""
import os
import socket
import subprocess
import sys
from pathlib import Path

folder = Path(sys.argv[1]).absolute()
port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
seconds = int(sys.argv[3]) if len(sys.argv) > 3 else 3600
address = sys.argv[4] if len(sys.argv) > 4 else "127.0.0.1"
config = folder / "keystone.conf"

folder.mkdir(parents=True, exist_ok=True)
for name in ("fernet", "credential", "log"):
    (folder / name).mkdir(exist_ok=True)
(folder / "fernet").chmod(0o700)
(folder / "credential").chmod(0o700)
# written each time: the folder may be a copy of another, with other lifetimes
config.write_text(f"""
[DEFAULT]
log_file = {folder}/log/keystone.log
[database]
connection = sqlite:///{folder}/keystone.sqlite
[token]
provider = fernet
expiration = {seconds}
[cache]
enabled = false
[identity]
password_hash_rounds = 4
[fernet_tokens]
key_repository = {folder}/fernet
[credential]
key_repository = {folder}/credential
[fernet_receipts]
key_repository = {folder}/fernet
""")
if not (folder / "made").exists():
    manage = [str(Path(sys.executable).with_name("keystone-manage")), "--config-file", str(config)]
    me = ["--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid())]
    for command in (["db_sync"], ["fernet_setup", *me], ["credential_setup", *me],
                    ["bootstrap", "--bootstrap-password", "secret", "--bootstrap-username", "admin",
                     "--bootstrap-project-name", "admin", "--bootstrap-role-name", "admin",
                     "--bootstrap-region-id", "RegionOne"]):
        done = subprocess.run(manage + command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"keystone-manage {command[0]}: {done.stdout}{done.stderr}")
    (folder / "made").touch()

os.environ["OS_KEYSTONE_CONFIG_FILES"] = str(config)
os.environ["OS_KEYSTONE_CONFIG_DIR"] = str(folder)
# Keystone reads the command line too
sys.argv = sys.argv[:1]

from cheroot import wsgi  # noqa: E402
from keystone.server.wsgi import initialize_public_application  # noqa: E402

if port == 0:
    # cheroot lets an address be used again only when it was asked for by its number
    with socket.socket() as one:
        one.bind((address, 0))
        port = one.getsockname()[1]
server = wsgi.Server((address, port), initialize_public_application(), numthreads=4)
server.prepare()
print(f"ready http://{address}:{server.bind_addr[1]}", flush=True)
server.serve()
